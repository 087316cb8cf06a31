"""The measurements, which nothing else imports."""

import sys

from documents import ROOT

from ndpnet.commands import output


def test_every_measurement_finds_what_it_imports() -> None:
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
    assert {"training_step", "gpu", "devices"} <= set(names)
    output([sys.executable, "-c", f"import {', '.join(names)}"], ROOT / "benchmarks")
