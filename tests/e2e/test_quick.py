"""`ndpnet quick`: from nothing to a drawn verdict, by one command."""

from pathlib import Path

import pytest
from processes import run_cli

pytestmark = pytest.mark.slow


def test_it_finds_the_scratch(tmp_path: Path) -> None:
    finished = run_cli(["quick", "--out", tmp_path / "quick"], tmp_path / "log")
    assert finished.exit_code == 0, finished.stderr
    assert "test/scratch/brick_r6c5_07.png: defective: score 0." in finished.stdout
    assert (tmp_path / "quick/verdict.png").is_file()
    assert (tmp_path / "quick/model/config.json").is_file()
