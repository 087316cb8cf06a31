"""A prefix of pictures on a real S3 server, a registered package: the same results from any number of shards."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from places import NAMES, Place
from processes import kill_when, start
from registered import NAME, with_threshold
from samples import Pipeline
from servers import S3Server, set_only

from ndpnet.batch import shard as shards
from ndpnet.batch.plan import PLANS, InspectionRequest, Plan, load_plan, make_plan
from ndpnet.batch.shard import inspect_shard
from ndpnet.batch.summary import read_summary, summarise
from ndpnet.inference.folder import inspect_folder
from ndpnet.inference.inspector import Inspector
from ndpnet.storage.bucket import Bucket
from ndpnet.tracking.client import connect

pytestmark = pytest.mark.usefixtures("services")


def request(place: Place, name: str = "out", **changes: Any) -> InspectionRequest:
    """An inspection of the pictures by the champion."""
    return InspectionRequest(**{"prefix": place.prefix, "model": NAME, "out": place.out(name)} | changes)


def run(place: Place, name: str = "out", **changes: Any) -> dict[str, Any]:
    """Plan, shards and summary, one after the other."""
    return finish(make_plan(request(place, name, **changes)), place.out(name))


def finish(plan: Plan, out: str) -> dict[str, Any]:
    parts = [inspect_shard(out, plan.id, number) for number in range(plan.num_shards)]
    assert len(set(parts)) == plan.num_shards
    return summarise(out, plan.id)


def rows_of(place: Place, name: str = "out") -> list[dict[str, Any]]:
    return [json.loads(line) for line in place.read(f"{name}/predictions.jsonl").splitlines()]


def one_line(call: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- results


def test_any_number_of_shards_gives_the_bytes_of_one_and_the_verdicts_of_a_local_folder(
    place: Place, pictures: list[bytes], pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run(place)
    whole = place.results()
    assert set(whole) == {
        "predictions.csv",
        "predictions.jsonl",
        "summary.json",
        *(f"overlays/{name}.jpg" for name in NAMES),
    }
    monkeypatch.setattr(shards, "MAX_BLOCK", 2)
    assert run(place, "three", num_shards=3) == summary
    assert place.results("three") == whole
    assert run(place, "many", num_shards=40) == summary
    assert place.results("many") == whole
    assert len([name for name in place.listed("many") if name.startswith("shards/")]) == len(NAMES)  # none is empty

    for name, content in zip(NAMES, pictures, strict=True):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    champion = Inspector.load(with_threshold(pipeline.model_dir, tmp_path / "champion", 0.4))
    result = inspect_folder(champion, tmp_path / "in", tmp_path / "out")
    assert {row["threshold_source"] for row in rows_of(place)} == {"calibrated"}
    local = {json.loads(line)["path"]: line for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()}
    assert whole["predictions.jsonl"].decode().splitlines() == [local[name] for name in NAMES]
    table = (tmp_path / "out/predictions.csv").read_text().splitlines()
    assert sorted(whole["predictions.csv"].decode().splitlines()) == sorted(table)
    assert whole[f"overlays/{NAMES[0]}.jpg"] == (tmp_path / f"out/overlays/{NAMES[0]}.jpg").read_bytes()
    assert (summary["num_good"], summary["num_defective"]) == (result["good"], result["defective"])
    assert (summary["num_pictures"], summary["num_failed"], summary["failed"]) == (len(NAMES), 0, [])


def test_what_is_not_judged_is_named_in_the_log(
    place: Place, pictures: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run(place, "in/verdicts")
    for name in (
        "a/ground_truth/x.png",
        "earlier/overlays/x.png.jpg",
        "earlier/predictions.jsonl",
        "folder.png/",
        "__MACOSX/x.png",
    ):
        place.put(name, pictures[0] if name.endswith("g") else b"")
    caplog.clear()
    plan = make_plan(request(place))
    assert [picture.name for picture in plan.pictures] == list(NAMES)
    others = next(message for message in caplog.messages if message.startswith("no pictures, left out: "))
    assert f"{place.prefix}/.thumbs/x.png, {place.prefix}/__MACOSX/x.png, {place.prefix}/a/.hidden.png" in others
    for folder, content in {"a/ground_truth": "masks", "earlier": "results", "verdicts": "results"}.items():
        assert f"left out {place.prefix}/{folder}: it holds {content}, no pictures to judge" in caplog.messages
    place.put("masks only/mask/x.png", pictures[0])
    message = one_line(make_plan, request(place, prefix=f"{place.prefix}/masks only"))
    assert message.startswith(f"no pictures under {place.prefix}/masks only (check bucket and prefix")


def test_what_cannot_be_inspected_is_a_row_that_names_it(place: Place, pictures: list[bytes]) -> None:
    place.put("a/x.png", b"no picture")
    plan = make_plan(request(place, num_shards=2))
    place.put("b.png", pictures[0])  # another one than was listed
    place.remove("in/c.png")
    summary = finish(plan, place.out())
    errors = {each["path"]: each["error"] for each in summary["failed"]}
    assert set(errors) == {"a/x.png", "b.png", "c.png"}
    assert errors["b.png"] == f"{place.prefix}/b.png was replaced since it was listed"
    assert errors["c.png"] == f"{place.prefix}/c.png was removed since it was listed"
    assert errors["a/x.png"].startswith(f"cannot read {place.prefix}/a/x.png: ")
    assert [row["path"] for row in rows_of(place)] == list(NAMES)
    assert (summary["num_failed"], summary["num_good"] + summary["num_defective"]) == (3, len(NAMES) - 3)
    assert {name for name in place.listed() if name.startswith("overlays/")} == {
        f"overlays/{name}.jpg" for name in NAMES if name not in errors
    }


def test_without_overlays_and_of_one_picture(place: Place) -> None:
    asked = request(place, prefix=f"{place.prefix}/a/x.png", num_shards=4, has_overlays=False)
    summary = finish(make_plan(asked), place.out())
    assert summary["num_pictures"] == 1
    assert [row["path"] for row in rows_of(place)] == ["x.png"]
    assert not any(name.startswith("overlays/") for name in place.listed())


# ---- one model, one listing for all shards


def test_shards_take_the_version_that_was_champion_when_it_was_planned(place: Place) -> None:
    plan = make_plan(request(place, model=f"{NAME}@champion", num_shards=2))
    inspect_shard(place.out(), plan.id, 0)
    place.put("d.png", b"came later")
    connect().set_registered_model_alias(NAME, "champion", "2")
    try:
        inspect_shard(place.out(), plan.id, 1)
        summary = summarise(place.out(), plan.id)
        blind = run(place, "blind")
    finally:
        connect().set_registered_model_alias(NAME, "champion", "1")
    assert (summary["model"]["version"], summary["model"]["threshold"], summary["num_pictures"]) == (1, 0.4, len(NAMES))
    assert {row["threshold"] for row in rows_of(place)} == {0.4}
    assert summary["num_defective"] > 0
    assert (blind["model"]["version"], blind["num_defective"], blind["num_failed"]) == (2, 0, 1)
    assert blind["model"]["package_hash"] != summary["model"]["package_hash"]
    assert run(place, "first")["model"]["version"] == 1


def test_a_package_that_is_another_one_by_now_is_refused(place: Place) -> None:
    plan = make_plan(request(place))
    forged = replace(plan, id="0" * 16, model=replace(plan.model, package_hash="0" * 64))
    place.server.put(place.bucket, f"{place.key}/out/plan.json", PLANS.dump_json(forged))
    assert "is another plan by now" in one_line(inspect_shard, place.out(), plan.id, 0)
    assert f"{NAME} version 1 is another package by now" in one_line(inspect_shard, place.out(), forged.id, 0)


def test_results_among_the_pictures_are_never_inspected(place: Place) -> None:
    first = run(place, "in/results")
    again = run(place, "in/results", num_shards=2)
    assert again == first
    assert first["num_pictures"] == len(NAMES)
    for out in (place.prefix, place.out(""), f"s3://{place.bucket}"):
        assert "would lie among the results (choose another --out)" in one_line(request, place, out=out)
    request(place, out=f"{place.prefix}-results/")  # begins alike, lies beside


# ---- again


def _inspect_in_small_blocks(out: str, plan_id: str) -> None:
    shards.MAX_BLOCK = 1
    inspect_shard(out, plan_id, 0)


def test_a_shard_that_was_killed_is_done_again(place: Place) -> None:
    plan = make_plan(request(place))
    process = start(_inspect_in_small_blocks, place.out(), plan.id)
    assert kill_when(process, lambda: any(name.startswith("overlays/") for name in place.listed()))
    message = one_line(summarise, place.out(), plan.id)
    assert f"shard 0 of 1 has left no rows at {place.out()}/shards/{plan.id}/0000-of-0001.jsonl" in message
    finish(plan, place.out())
    run(place, "unharmed")
    assert place.results() == place.results("unharmed")


def test_the_same_plan_goes_on_and_any_other_is_a_new_one(place: Place, pictures: list[bytes]) -> None:
    asked = request(place, num_shards=2)
    first = make_plan(asked)
    assert make_plan(asked) == first
    assert load_plan(Bucket(place.out()), first.id) == first
    place.remove("out/plan.json")
    second = make_plan(asked)
    assert second.id != first.id
    assert replace(second, id=first.id) == first
    place.put("b.png", pictures[0])
    third = make_plan(asked)
    assert third.pictures != first.pictures
    assert "is another plan by now (two inspections write there" in one_line(inspect_shard, place.out(), second.id, 0)
    assert "there is no shard 2" in one_line(third.pictures_of, 2)


# ---- bad input


def test_results_that_cannot_be_stored(place: Place, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    message = one_line(make_plan, request(place, out="s3://no-such/x"))
    assert "NoSuchBucket" in message
    set_only(monkeypatch, s3.environment(can_write=False))
    message = one_line(make_plan, request(place))
    assert message.startswith(f"cannot reach {place.out()}/plan.json")
    assert "AccessDenied" in message
    assert "PutObject" in message  # boto3 names the operation


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": f"{NAME}@7"}, f"no {NAME} '7' in the registry (it has 1, 2, 3, champion)"),
        ({"model": "ndpnet-none"}, "no ndpnet-none 'champion' in the registry (it has no version)"),
        ({"model": f"{NAME}@3"}, f"{NAME} version 3 has no threshold (run `ndpnet calibrate`"),
        ({"model": f"{NAME}@"}, "is no model (give ndpnet-NAME"),
        ({"num_shards": 0}, "0 shards cannot be (ask for 1 to 500)"),
        ({"num_shards": 501}, "501 shards cannot be"),
        ({"out": "/tmp/x"}, "'/tmp/x' is no address on S3"),
    ],
)
def test_what_cannot_be_meant(place: Place, asked: dict[str, Any], message: str) -> None:
    assert message in one_line(lambda: make_plan(request(place, **asked)))


def test_a_plan_that_is_none(place: Place) -> None:
    place.server.put(place.bucket, f"{place.key}/out/plan.json", b'{"id": 1}')
    assert "is no plan of an inspection" in one_line(make_plan, request(place))


def test_rows_that_do_not_fit_the_plan(place: Place) -> None:
    plan = make_plan(request(place))
    finish(plan, place.out())
    part = f"out/shards/{plan.id}/0000-of-0001.jsonl"
    rows = place.read(part)
    summary = read_summary(place.out())
    for changed in (rows[: rows.rindex(b"\n", 0, -1) + 1], rows[:-1], rows + rows, b""):
        place.server.put(place.bucket, f"{place.key}/{part}", changed)
        assert "the rows of shard 0 do not fit the plan" in one_line(summarise, place.out(), plan.id)
    assert read_summary(place.out()) == summary
