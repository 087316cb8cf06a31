"""`ndpnet pipeline inspect --local`: KFP's own engine, a process per task."""

import subprocess
from pathlib import Path

import pytest
from places import NAMES, Place
from processes import TIME_LIMIT
from registered import NAME
from repositories import NDPNET

from ndpnet.batch.plan import InspectionRequest, make_plan
from ndpnet.batch.shard import inspect_shard
from ndpnet.batch.summary import summarise

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("services")]


def test_it_inspects_all_shards_and_says_what_it_found(place: Place, tmp_path: Path) -> None:
    place.put("a/x.png", b"no picture")
    options = ("--model", NAME, "--out", place.out(), "--shards", "2", "--log-dir", tmp_path / "kfp")
    command = [str(each) for each in (*NDPNET, "pipeline", "inspect", place.prefix, "--local", *options)]
    pipes = {"cwd": tmp_path, "capture_output": True, "text": True}
    finished = subprocess.run(command, **pipes, check=False, timeout=2 * TIME_LIMIT)
    assert finished.returncode == 1, finished.stderr
    told = f"1 unreadable ({NAME} version 1, threshold 0.4000); results in {place.out()}"
    assert told in finished.stdout.splitlines()[-1]
    assert f"cannot read {place.prefix}/a/x.png: " in finished.stderr
    by_engine = place.results()

    plan = make_plan(InspectionRequest(place.prefix, NAME, place.out("here")))
    inspect_shard(place.out("here"), plan.id, 0)
    assert summarise(place.out("here"), plan.id)["num_pictures"] == len(NAMES)
    assert by_engine == place.results("here")
