"""What the processes of a session make once, and share."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ndpnet.locks import locked

WAIT_SECONDS = 540.0  # for another process that makes it, below a test's own limit


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process which asks for it has `make` fill; the others wait, and read it."""
    own = factory.getbasetemp()
    session_dir = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder, unfinished = session_dir / name, session_dir / f"{name}.unfinished"
    with locked(session_dir / f"{name}.lock", f"{name} is being made", wait_seconds=WAIT_SECONDS):
        if not folder.exists():
            shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder
