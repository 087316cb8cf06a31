"""Checkpoints: whole or not at all, readable after any kill, one process at a time."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ndpnet.training.checkpoint import Checkpoint, only_process


def state_of(step: int) -> dict[str, object]:
    return {"step": step, "network": {"weight": torch.arange(6.0).view(2, 3) + step}}


def rows_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def test_a_half_written_state_is_never_read(tmp_path: Path) -> None:
    Checkpoint(tmp_path).save(state_of(4))
    whole = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.tmp").write_bytes(whole[: len(whole) // 2])
    assert Checkpoint(tmp_path).load()["step"] == 4
    Checkpoint(tmp_path).save(state_of(5))
    assert Checkpoint(tmp_path).load()["step"] == 5
    assert not (tmp_path / "state.tmp").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + b"\0" * 100])
def test_a_damaged_state_is_one_line_with_the_fix(tmp_path: Path, content: bytes) -> None:
    Checkpoint(tmp_path).save(state_of(4))
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(ValueError, match=rf"state\.pt is damaged \(remove {tmp_path}: the phase starts over\)$"):
        Checkpoint(tmp_path).load()


def test_no_code_runs_from_a_state(tmp_path: Path) -> None:
    torch.save({"step": 1, "network": Path("x")}, tmp_path / "state.pt")  # any class that is no tensor
    with pytest.raises(ValueError, match="is damaged"):
        Checkpoint(tmp_path).load()


@pytest.mark.parametrize("last_line", ["", '{"loss": 0.5, "st', '{"loss": 0.5, "step": 4}'])
def test_the_history_is_cut_back_to_the_state(tmp_path: Path, last_line: str) -> None:
    work = Checkpoint(tmp_path)
    work.append_history([{"step": step, "loss": 1 / step} for step in (1, 2, 3, 4)])
    work.append_history([{"step": 3, "validation/reconstruction": 0.25}])
    before = (tmp_path / "history.jsonl").read_text()
    (tmp_path / "history.jsonl").write_text(before + last_line)
    Checkpoint(tmp_path).cut_history(3)
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2, 3, 3]
    assert rows_of(tmp_path)[2] == {"step": 3, "loss": 1 / 3}
    Checkpoint(tmp_path).cut_history(0)
    assert rows_of(tmp_path) == []


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
