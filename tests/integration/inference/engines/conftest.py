"""A package with engines to damage."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy_dir(exported_dir: Path, tmp_path: Path) -> Path:
    """A copy of the exported package to damage."""
    return shutil.copytree(exported_dir, tmp_path / "copy")
