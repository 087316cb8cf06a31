import os
import shutil
import time
from pathlib import Path

import pytest
from processes import SERVER, TIME_LIMIT
from samples import Pipeline

from ndpnet.files import atomic_folder, write_json
from ndpnet.gc import DAY, Policy, collect, judge, parse_age
from ndpnet.leftovers import find_leftovers
from ndpnet.promotion.worktree import checked_out
from ndpnet.tracking.record import Record
from ndpnet.training.checkpoint import Checkpoint, only_process

OLD = 30 * DAY
ALL = Policy(older_than=14 * DAY, keep_last=0)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an empty build/ and .work/."""
    for name in ("build", ".work"):
        (tmp_path / name).mkdir()
    return tmp_path


def run(place: Path, policy: Policy = ALL) -> dict[str, str]:
    """What goes -> "", and what stays -> why; it is removed."""
    verdicts = judge(place / "build", place / ".work", policy)
    problems = [problem for _, problem in collect(verdicts)]
    assert not any(problems)
    return {
        verdict.leftover.path.relative_to(place).as_posix(): "" if verdict.is_removed else verdict.reason
        for verdict in verdicts
    }


def age(path: Path, seconds: float = OLD) -> Path:
    """Make a file, or a folder with all in it, that old."""
    moment = time.time() - seconds
    for each in (*path.rglob("*"), path) if path.is_dir() else (path,):
        os.utime(each, (moment, moment))
    return path


def make_checkpoint(place: Path, number: int = 0) -> Path:
    folder = place / ".work/brick" / f"phase1-{number:016x}"
    checkpoint = Checkpoint(folder)
    checkpoint.save({"step": 1})
    checkpoint.append_history([{"step": 1.0}])
    return folder


def make_record(out: Path, *, is_delivered: bool = True, key: str = "abc", **values: object) -> Path:
    folder = out.with_name(f".{out.name}.run") / key
    folder.mkdir(parents=True)
    (folder.parent / ".gitignore").write_text("*\n")
    about = {"step": "evaluate", "category": "brick", "params": {}, "tags": {}, "inputs": {}, "started_at": 1}
    values = about | {"status": "finished", "is_delivered": is_delivered} | values
    Record(key=key, plan="p", folder=folder, **values).save()
    return folder


def test_only_old_checkpoints_go(place: Path) -> None:
    old, new = make_checkpoint(place, 1), make_checkpoint(place, 2)
    age(old)
    assert run(place) == {
        ".work/brick/phase1-0000000000000001": "",
        ".work/brick/phase1-0000000000000002": "written 0m ago",
    }
    assert not old.exists()
    assert Checkpoint(new).load() == {"step": 1}


def test_the_newest_stay_however_old(place: Path) -> None:
    folders = [age(make_checkpoint(place, number), OLD + number * DAY) for number in range(4)]
    run(place, Policy(older_than=14 * DAY, keep_last=2))
    assert [folder.exists() for folder in folders] == [True, True, False, False]


def test_a_file_written_lately_makes_a_checkpoint_new(place: Path) -> None:
    folder = age(make_checkpoint(place))
    os.utime(folder / "history.jsonl")
    assert run(place) == {".work/brick/phase1-0000000000000000": "written 0m ago"}


def _train(folder: str, has_begun: object) -> None:
    with only_process(Path(folder)):
        has_begun.set()
        time.sleep(TIME_LIMIT)  # no event: one that a killed process waits for can never be set again


def test_a_checkpoint_that_a_process_trains_with_stays(place: Path) -> None:
    folder = age(make_checkpoint(place))
    has_begun = SERVER.Event()
    process = SERVER.Process(target=_train, args=(str(folder), has_begun))
    process.start()
    assert has_begun.wait(60)
    try:
        verdicts = judge(place / "build", place / ".work", ALL)
        assert [verdict.reason for verdict in verdicts] == ["in use"]
        # one that begins between looking and removing is met by the lock
        about_to_go = [type(verdict)(verdict.leftover, True, "") for verdict in verdicts]
        ((_, problem),) = collect(about_to_go)
        assert f"process {process.pid} is training" in problem
        assert Checkpoint(folder).load() == {"step": 1}
        process.kill()
        process.join()
        assert run(place) == {".work/brick/phase1-0000000000000000": ""}
    finally:
        process.kill()
        process.join()
    assert not folder.exists()


def test_what_is_not_recognised_stays(place: Path) -> None:
    for name in ("phase1-0123", "phase3-0000000000000000", "notes", "bank"):
        (place / ".work" / name).mkdir()
        (place / ".work" / name / "state.pt").write_text("mine")
    strange = make_checkpoint(place)
    (strange / "my notes.txt").write_text("mine")
    age(place / ".work")
    assert run(place) == {}
    assert (strange / "my notes.txt").exists()


def test_links_are_not_followed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    target = age(make_checkpoint(elsewhere))
    (place / ".work/brick").symlink_to(target.parent)
    assert run(place) == {}
    assert target.exists()


def test_pinned_data_is_not_entered(place: Path) -> None:
    (place / "build/data.dvc").write_text("outs: []\n")
    folder = place / "build/data/brick/.x.0123456789ab.partial"
    folder.mkdir(parents=True)
    age(place / "build")
    assert run(place) == {}
    assert folder.exists()


def test_a_model_never_goes(place: Path, pipeline: Pipeline) -> None:
    shutil.copytree(pipeline.model_dir, place / "build/brick/model")
    shutil.copytree(pipeline.phase1_dir, place / "build/brick/phase1")
    age(place / "build")
    assert run(place) == {}


def test_banks_and_prepared_data_go_if_nothing_refers_to_them(place: Path, pipeline: Pipeline) -> None:
    for name in ("used", "unused", "in dvc"):
        shutil.copytree(pipeline.bank_dir, place / "build" / name / "bank")
        shutil.copytree(pipeline.prepared_dir, place / "build" / name / "prepared")
    inputs = {name: str(place / "build/used" / name) for name in ("bank", "prepared")}
    (place / "build/used/model").mkdir()
    make_record(place / "build/used/model", step="train-phase2", inputs=inputs)
    outs = [{"path": f"build/in dvc/{name}"} for name in ("bank", "prepared")]
    write_json(place / "dvc.lock", {"schema": "2.0", "stages": {"x": {"cmd": "x", "outs": outs}}})  # JSON is YAML
    age(place / "build")
    found = run(place)
    assert {path: found.pop(path) for path in list(found) if "used" in path} == {
        "build/unused/bank": "",
        "build/unused/prepared": "",
        "build/used/.model.run/abc": "tells who made model",
        "build/used/bank": "input of train-phase2 brick",
        "build/used/prepared": "input of train-phase2 brick",
    }
    assert found == {name: "an output in dvc.lock" for name in ("build/in dvc/bank", "build/in dvc/prepared")}
    assert [path.name for path in (place / "build/unused").iterdir()] == []


def test_records_go_once_the_server_has_them_and_the_output_is_gone(place: Path) -> None:
    gone, there = place / "build/gone", place / "build/there"
    there.mkdir()
    delivered = make_record(gone)
    pending = make_record(place / "build/pending", is_delivered=False)
    running = make_record(place / "build/running", is_delivered=True, status="running", host="elsewhere")
    kept = make_record(there)
    (place / "build/.broken.run/x").mkdir(parents=True)
    (place / "build/.broken.run/x/run.json").write_text("{")
    for folder in (delivered, pending, kept, place / "build/.broken.run"):
        age(folder)
    found = run(place)
    assert found == {
        "build/.broken.run/x": "unreadable",
        "build/.gone.run/abc": "",
        "build/.pending.run/abc": "not delivered yet (`ndpnet tracking flush`)",
        "build/.running.run/abc": "running",
        "build/.there.run/abc": "tells who made there",
    }
    assert not delivered.parent.exists()
    assert all(folder.exists() for folder in (pending, running, kept))


def test_what_killed_processes_left_goes_unless_it_is_in_use(place: Path) -> None:
    left = place / "build/.model.0123456789ab.partial"
    left.mkdir()
    (left / "config.json").write_text("{}")
    file = place / "build/.metrics.json.0123456789ab.partial"
    file.write_text("x")
    fetching = place / ".work/.data.fetching"
    fetching.mkdir()
    with atomic_folder(place / "build/model", marker="config.json") as folder:
        (folder / "config.json").write_text("{}")
        for path in (left, file, fetching, folder):
            age(path)
        assert run(place) == {
            folder.relative_to(place).as_posix(): "in use",
            "build/.model.0123456789ab.partial": "",
            "build/.metrics.json.0123456789ab.partial": "",
            ".work/.data.fetching": "",
        }
    assert sorted(path.name for path in place.rglob("*")) == [
        ".ndpnet.json",
        ".work",
        "build",
        "config.json",
        "model",
    ]


def test_a_model_that_stepped_aside_and_never_came_back_stays(place: Path, pipeline: Pipeline) -> None:
    # a process killed between the two renames of atomic_folder leaves the old model under this name alone
    aside = place / "build/.model.0123456789ab.partial"
    shutil.copytree(pipeline.model_dir, aside)
    age(aside)
    assert run(place) == {
        "build/.model.0123456789ab.partial": "a model whose own folder is gone: rename it to model, or remove it"
    }
    shutil.copytree(aside, place / "build/model")
    assert run(place)["build/.model.0123456789ab.partial"] == ""


def test_a_reproduced_tree_goes_with_its_entry_in_git(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
        return subprocess.run(command, cwd=place, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "x")
    commit = git("rev-parse", "HEAD")
    folder = place / ".work/reproduce/ndpnet-brick-1"
    with checked_out(place, commit, folder, is_kept=True):
        age(folder)
        assert run(place) == {".work/reproduce/ndpnet-brick-1": "in use"}
    assert run(place) == {".work/reproduce/ndpnet-brick-1": ""}
    assert list((place / ".work/reproduce").iterdir()) == []
    assert git("worktree", "list").count("\n") == 0


def test_looking_changes_nothing(place: Path) -> None:
    age(make_checkpoint(place))
    before = sorted(place.rglob("*"))
    verdicts = judge(place / "build", place / ".work", ALL)
    assert [verdict.is_removed for verdict in verdicts] == [True]
    assert verdicts[0].leftover.num_bytes >= (before[-1].stat().st_size)
    assert sorted(place.rglob("*")) == before
    assert judge(place / "no build", place / "no work", ALL) == []


def test_the_same_folder_twice_is_looked_at_once(place: Path) -> None:
    make_checkpoint(place)
    assert len(list(find_leftovers(place / ".work", place / ".work"))) == 1


@pytest.mark.parametrize(("text", "seconds"), [("14d", 14 * DAY), ("12h", 43200), ("0d", 0), ("2w", 14 * DAY)])
def test_ages(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "14", "-1d", "1.5d", "14 days"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no age"):
        parse_age(text)
