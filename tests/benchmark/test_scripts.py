"""The measurements, which nothing else imports."""

import runpy

import pytest
from documents import ROOT


def test_every_measurement_finds_what_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    scripts = {path.stem: path for path in (ROOT / "benchmarks").glob("*.py")}
    assert {"training_step", "gpu", "devices"} <= scripts.keys()
    for path in scripts.values():
        runpy.run_path(str(path), run_name="measurement")
