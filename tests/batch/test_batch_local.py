"""`ndpnet pipeline inspect`: KFP's own engine, a process per task; killed, and run again."""

import signal
from pathlib import Path

import pytest
from places import NAMES, Place
from processes import run_cli, start_cli, wait_until
from registered import NAME

from ndpnet.batch.plan import InspectionRequest, make_plan
from ndpnet.batch.shard import inspect_shard
from ndpnet.batch.summary import summarise

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("services")]


def test_killed_and_run_again_it_does_the_missing_shard_and_says_what_it_found(place: Place, tmp_path: Path) -> None:
    place.put("a/x.png", b"no picture")
    inspect = ["pipeline", "inspect", place.prefix, "--model", NAME, "--out", place.out(), "--shards", "2"]
    verb = start_cli(inspect, tmp_path / "log", folder=tmp_path)
    # once KFP has put the shard into its cache, which comes after its SUCCESS in the log; the plan is never cached
    wait_until(lambda: any(tmp_path.rglob("cache/*.json")) or not verb.is_alive())
    verb.kill()
    verb.join()
    assert verb.exitcode == -signal.SIGKILL, "it ended before it was killed"
    assert len([name for name in place.listed() if name.startswith("shards/")]) == 1
    finished = run_cli(inspect, tmp_path / "again", folder=tmp_path)
    lines = finished.stdout.splitlines()
    assert finished.exit_code == 1, finished.stderr
    assert "Task inspect-shard cache hit" in finished.stderr
    assert f"1 unreadable ({NAME} version 1, threshold 0.4000); results in {place.out()}" in lines[-1]
    assert f"cannot read {place.prefix}/a/x.png: " in finished.stderr
    by_engine = place.results()

    plan = make_plan(InspectionRequest(place.prefix, NAME, place.out("here")))
    inspect_shard(place.out("here"), plan.id, 0)
    assert summarise(place.out("here"), plan.id)["num_pictures"] == len(NAMES)
    assert by_engine == place.results("here")
