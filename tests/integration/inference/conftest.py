"""Every test logs as if it were alone; a package with engines to damage."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _handlers_as_they_were(caplog: pytest.LogCaptureFixture) -> None:
    """NNCF, once it was imported, leaves them at ERROR."""
    caplog.handler.setLevel(0)


@pytest.fixture
def copy_dir(exported_dir: Path, tmp_path: Path) -> Path:
    """A copy of the exported package to damage."""
    return shutil.copytree(exported_dir, tmp_path / "copy")
