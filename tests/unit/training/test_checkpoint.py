"""Checkpoints: a damaged one is named, no code runs from one, one process at a time; kills: tests/e2e/test_kill.py."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ndpnet.training.checkpoint import Checkpoint, only_process


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + b"\0" * 100])
def test_a_damaged_state_is_one_line_with_the_fix(tmp_path: Path, content: bytes) -> None:
    Checkpoint(tmp_path).save({"step": 4})
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"state\.pt is damaged \(remove {tmp_path}: the phase starts over\)$"):
        Checkpoint(tmp_path).load()


def test_no_code_runs_from_a_state(tmp_path: Path) -> None:
    torch.save({"step": 1, "network": Path("x")}, tmp_path / "state.pt")  # any class that is no tensor
    with pytest.raises(ValueError, match="is damaged"):
        Checkpoint(tmp_path).load()


HOLDER = """
import os, pathlib, sys, time
from ndpnet.locks import locked
path = pathlib.Path(sys.argv[1])
with locked(path, ""):
    path.write_text(str(os.getpid()))
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def holder(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the work folder for some seconds."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "work.lock"), str(request.param)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("holder", [60.0], indirect=True)
def test_two_processes_never_train_in_one_folder(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    message = rf"^process {holder.pid} is training .*\(wait for it, or end it: kill {holder.pid}\)$"
    with pytest.raises(ValueError, match=message), only_process(tmp_path / "work", wait_seconds=0.3):
        pass
    with only_process(tmp_path / "another"):
        pass
    holder.kill()  # a dead one's lock is free
    holder.wait()
    with only_process(tmp_path / "work"):
        assert [path.name for path in tmp_path.iterdir()] == ["work.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("holder", [0.4], indirect=True)
def test_the_next_process_waits_for_one_that_is_about_to_end(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    with only_process(tmp_path / "work"):
        assert (tmp_path / "work.lock").exists()
        assert holder.wait(10) == 0
