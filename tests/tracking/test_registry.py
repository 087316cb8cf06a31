"""Moving the champion: of two at once one wins, and whenever a process ends or a call fails, the next call finishes."""

import importlib
import itertools
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from calls import Calls, lose_answer, lose_request
from google.protobuf.json_format import ParseError
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from processes import TIME_LIMIT, start

from ndpnet.promotion.table import format_history
from ndpnet.tracking.client import connect, experiment_id, has_server, local_database
from ndpnet.tracking.registry import CHAMPION, Registry
from ndpnet.tracking.versions import champion_tags

pytestmark = pytest.mark.usefixtures("tracking_on")

NAME, NUM_VERSIONS = "ndpnet-o ring", 4
GATE = "ndpnet.gate"
# what talks to the registry on the way from one champion to the next
READS = ("get_registered_model", "search_model_versions", "get_model_version", "get_experiment_by_name")
WRITES = (
    "set_registered_model_alias", "delete_registered_model_alias", "create_run", "log_text", "set_terminated",
    "set_model_version_tag", "update_model_version", "create_registered_model", "create_model_version",
)  # fmt: skip


@pytest.fixture(scope="module")
def filled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one registered model of four versions, each a LoggedModel without files."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
        client = connect(is_begun=False)
        experiment = experiment_id(client)
        client.create_registered_model(NAME)
        for number in range(1, NUM_VERSIONS + 1):
            model = client.create_logged_model(experiment, name=f"m{number}")
            client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
            client.create_model_version(NAME, f"models:/{model.model_id}", tags={"ndpnet.package_hash": str(number)})
    return path


@pytest.fixture
def store(filled_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is the tracking server. -> its folder"""
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copyfile(filled_store, folder / 'mlflow.db')}")
    return folder


def promote(version: int, source: int | None = None, **kwargs: Any) -> None:
    """All that a promotion tells the registry, from the champion `source` on."""
    registry = Registry(NAME)
    registry.settle()
    registry.nominate(version)
    evidence = {"version": version, "decision": "promoted"}
    run_id = registry.keep_evidence(version, {"promotion.json": json.dumps(evidence)}, {GATE: "passed"}, "card")
    registry.move("promote", version, source=source, run_id=run_id, evidence=evidence, **kwargs)


def rollback(source: int, target: int) -> None:
    """Back to an earlier champion."""
    Registry(NAME).move("rollback", target, source=source, reason="it cries wolf")


def champion_of(client: MlflowClient) -> int | None:
    """The version that the alias is on, and that it is one which passed."""
    alias = client.get_registered_model(NAME).aliases.get(CHAMPION)
    if alias is not None:
        assert client.get_model_version(NAME, str(alias)).tags.get(GATE) == "passed"
    return None if alias is None else int(alias)


def test_a_promotion_moves_the_alias_and_is_remembered(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDPNET_USER", "ada@here")
    promote(2)
    registry = Registry(NAME)
    assert registry.aliases() == {CHAMPION: 2}  # the challenger is one no more
    (move,) = registry.timeline().moves
    assert move.when <= registry.author["when"]
    assert (move.kind, move.source, move.target, move.who) == ("promote", None, 2, "ada@here")
    client = connect()
    path = Path(client.download_artifacts(move.run_id, "promotion.json", str(store)))
    assert json.loads(path.read_text()) == {"version": 2, "decision": "promoted"}
    assert client.get_run(move.run_id).info.status == "FINISHED"
    version = client.get_model_version(NAME, "2")
    assert (version.tags[GATE], version.description) == ("passed", "card")
    assert version.tags["ndpnet.package_hash"] == "2"


def test_a_move_away_from_what_is_no_longer_champion_is_refused(store: Path) -> None:
    promote(1)
    promote(2, 1)
    for source in (1, None, 4):
        with pytest.raises(ValueError, match=r"has moved since this began \(.*\), to version 2"):
            promote(3, source)
    assert champion_of(connect()) == 2
    assert len(Registry(NAME).timeline().moves) == 2


def test_what_is_done_by_hand_is_put_right(store: Path) -> None:
    promote(1)
    promote(2, 1)
    client = connect()
    client.set_registered_model_alias(NAME, CHAMPION, "3")
    registry = Registry(NAME)
    said = format_history(NAME, registry.timeline(), registry.aliases())
    assert "NOTE: the alias champion is on version 3" in said
    assert registry.settle().champion == 2
    assert champion_of(client) == 2
    client.delete_registered_model_alias(NAME, CHAMPION)
    Registry(NAME).settle()
    assert champion_of(client) == 2
    client.delete_model_version(NAME, "2")
    with pytest.raises(ValueError, match=r"version 2, the champion of .* was deleted \(`ndpnet rollback`"):
        Registry(NAME).settle()
    rollback(2, 1)
    assert champion_of(client) == 1


def _answer_nonsense(_: Callable[[], Any]) -> Any:
    raise ParseError("Failed to parse modelVersions field:\n<html>sign in</html>")


def next_to(version: int) -> int:
    """The version to promote after another one: they take turns."""
    return version % NUM_VERSIONS + 1


def outcome_of(target: int, champion: int) -> str:
    """Whether a promotion went through; its error is fit to be shown."""
    message = ""
    try:
        promote(target, champion)
    except ValueError as error:
        message = str(error)
    assert "hunter2" not in message
    assert "\n" not in message
    return "failed" if message else "done"


@pytest.mark.parametrize("acts", [(lose_request, _answer_nonsense), (lose_answer,)], ids=["request", "answer"])
def test_whichever_call_is_lost_the_next_promotion_finishes(
    store: Path, monkeypatch: pytest.MonkeyPatch, acts: tuple[Callable[..., Any], ...]
) -> None:
    calls = Calls(monkeypatch.setattr, READS + WRITES)
    outcomes, champion, was_reached = [], 1, True
    promote(1)
    while was_reached:
        target = next_to(champion)
        calls.number, calls.at, calls.act = 0, len(outcomes) + 1, acts[len(outcomes) % len(acts)]
        outcomes.append(outcome_of(target, champion))
        was_reached, calls.at = calls.number >= calls.at, 0
        assert champion_of(connect()) in ([target] if outcomes[-1] == "done" else [champion, target])
        settled = Registry(NAME).settle().champion
        assert champion_of(connect()) == settled
        if settled == champion:
            promote(target, champion)
        assert Registry(NAME).aliases() == {CHAMPION: target}
        champion = target
    assert outcomes[-1] == "done"
    assert outcomes.count("failed") > 8
    timeline = Registry(NAME).timeline()
    assert len(timeline.line) == len(outcomes) + 1, "a move was made twice or not at all"


def _end_here(_: Callable[[], Any]) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_at_every_call(folder: Path, kind: str) -> None:
    """Forks processes: the first ends before its first call, the next one finishes that move, begins another, ..."""
    for part in ("model_registry", "tracking"):  # once, not in every child
        importlib.import_module(f"mlflow.store.{part}.sqlalchemy_store")
    for at in range(1, 200):
        child = os.fork()  # no connection is open here, and MLflow need not be imported again
        if child == 0:
            try:
                _finish_and_begin(kind, at, folder)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            os._exit(status >> 8)
    os._exit(2)


def _finish_and_begin(kind: str, at: int, folder: Path) -> None:
    client = connect()
    met = champion_of(client)  # as the killed one left it
    champion = Registry(NAME).settle().champion
    seen = {"met": met, "champion": champion, "alias": champion_of(client), "line": Registry(NAME).timeline().line}
    before = json.loads((folder / f"{at - 1}.json").read_text()) if at > 1 else None
    if before is not None and champion == before["from"]:
        _move(kind, before["from"], before["to"])
        champion = before["to"]
    if kind == "rollback":  # one more to go back from
        promote(next_to(champion), champion)
        champion, target = next_to(champion), champion
    else:
        target = next_to(champion)
    line = Registry(NAME).timeline().line
    (folder / f"{at}.json").write_text(json.dumps({"seen": seen, "line": line, "from": champion, "to": target}))
    calls = Calls(setattr, WRITES)  # to end before a read is to end after the write before it
    calls.at, calls.act = at, _end_here
    _move(kind, champion, target)


def _move(kind: str, champion: int, target: int) -> None:
    promote(target, champion) if kind == "promote" else rollback(champion, target)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["promote", "rollback"])
def test_killed_before_any_call_the_next_one_finishes(store: Path, tmp_path: Path, kind: str) -> None:
    for version in range(1, NUM_VERSIONS + 1):
        promote(version, version - 1 or None)
    process = start(_kill_at_every_call, tmp_path, kind)
    process.join(TIME_LIMIT)
    assert process.exitcode == 0
    count = len(list(tmp_path.glob("*.json")))
    reports = [json.loads((tmp_path / f"{at}.json").read_text()) for at in range(1, count + 1)]
    outcomes = []
    for killed, after in itertools.pairwise(reports):
        old, new, seen = killed["from"], killed["to"], after["seen"]
        assert seen["champion"] in (old, new)
        assert seen["alias"] == seen["champion"]
        outcomes.append((seen["met"] == new, seen["champion"] == new))
        change = 0 if seen["champion"] == old else 1 if kind == "promote" else -1
        assert len(seen["line"]) == len(killed["line"]) + change
    # killed before the move was entered, between it and the alias, after the alias (a rollback does nothing after it)
    expected = [(False, False)] * (7 if kind == "promote" else 2) + [(False, True)]
    assert outcomes == expected + [(True, True)] * (kind == "promote")
    assert Registry(NAME).aliases() == {CHAMPION: reports[-1]["to"]}


def _promote_until_done(version: int, out_path: Path) -> None:
    refusals = []
    deadline = time.monotonic() + TIME_LIMIT / 2
    while time.monotonic() < deadline:
        try:
            promote(version, Registry(NAME).timeline().champion)
            break
        except ValueError as error:
            refusals.append(str(error))
            # who was faster has made its entry; its alias may follow a moment later
            assert "locked" in refusals[-1] or Registry(NAME).timeline().champion is not None
    out_path.write_text(json.dumps(refusals))


def test_asking_makes_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^nothing is recorded in .*/mlflow\.db \(go where you trained"):
        Registry(NAME)
    assert champion_tags("o ring") == {}
    assert not list(tmp_path.iterdir())


def test_an_experiment_in_a_copy_of_the_tree_is_recorded_in_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy = tmp_path / ".dvc/tmp/exps/standalone/tmp1"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert local_database() == tmp_path / "mlflow.db"
    assert not has_server()
    connect(is_begun=False).search_experiments()
    assert has_server()
    assert not list(copy.iterdir())


@pytest.mark.slow
def test_four_at_once_agree_on_one_line_of_champions(store: Path, tmp_path: Path) -> None:
    versions = range(1, NUM_VERSIONS + 1)
    processes = [start(_promote_until_done, version, tmp_path / str(version)) for version in versions]
    for process in processes:
        process.join(TIME_LIMIT)
    assert [process.exitcode for process in processes] == [0] * NUM_VERSIONS
    timeline = Registry(NAME).timeline()
    assert sorted(timeline.line) == list(versions)
    assert champion_of(connect()) == timeline.champion == timeline.line[-1]
    assert len(timeline.moves) == NUM_VERSIONS + len(timeline.void)
