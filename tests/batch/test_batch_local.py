"""`ndpnet pipeline inspect`: KFP's own engine, a process per task; killed, and run again."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from places import NAMES, Place
from processes import TIME_LIMIT, wait_until
from registered import NAME
from repositories import NDPNET

from ndpnet.batch.plan import InspectionRequest, make_plan
from ndpnet.batch.shard import inspect_shard
from ndpnet.batch.summary import summarise

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("services")]


def command(place: Place) -> list[str]:
    options = ["--model", NAME, "--out", place.out(), "--shards", "2"]
    return [*NDPNET, "pipeline", "inspect", place.prefix, *options]


def inspect(place: Place, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(place), cwd=folder, capture_output=True, text=True, check=False, timeout=2 * TIME_LIMIT
    )


def kill_after_the_first_shard(place: Place, folder: Path) -> None:
    """Start the run, and kill all of its processes once one shard has finished, and the other not."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(place), cwd=folder, start_new_session=True, **quiet)
    # once KFP has put it into its cache, which comes after its SUCCESS in the log; the plan is never cached
    wait_until(lambda: list(folder.rglob("cache/*.json")) or process.poll() is not None)
    assert process.poll() is None, "it ended before it was killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_and_run_again_it_does_the_missing_shard_and_says_what_it_found(place: Place, tmp_path: Path) -> None:
    place.put("a/x.png", b"no picture")
    kill_after_the_first_shard(place, tmp_path)
    assert len([name for name in place.listed() if name.startswith("shards/")]) == 1
    finished = inspect(place, tmp_path)
    lines = finished.stdout.splitlines()
    assert finished.returncode == 1, finished.stderr
    assert "Task inspect-shard cache hit" in finished.stderr
    assert f"1 unreadable ({NAME} version 1, threshold 0.4000); results in {place.out()}" in lines[-1]
    assert f"cannot read {place.prefix}/a/x.png: " in finished.stderr
    by_engine = place.results()

    plan = make_plan(InspectionRequest(place.prefix, NAME, place.out("here")))
    inspect_shard(place.out("here"), plan.id, 0)
    assert summarise(place.out("here"), plan.id)["num_pictures"] == len(NAMES)
    assert by_engine == place.results("here")
