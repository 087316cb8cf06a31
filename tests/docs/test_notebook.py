"""The example notebook runs, cell by cell, as written."""

import json
from pathlib import Path

import pytest
from documents import ROOT
from samples import CATEGORY, Pipeline

NOTEBOOK = ROOT / "docs/inspector.ipynb"


def test_its_cells_run_in_order(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "build/brick").mkdir(parents=True)
    (tmp_path / "build/brick/model").symlink_to(pipeline.model_dir)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/brick").symlink_to(pipeline.data_dir / CATEGORY)
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # figures of another day would stand there unseen
            exec("".join(cell["source"]), names)
    said = capsys.readouterr().out
    assert (tmp_path / "verdict.png").stat().st_size > 1000
    assert said.count(".png") == 13
    assert "false alarms on new good images" in said
