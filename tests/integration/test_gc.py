import os
import shutil
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from processes import SERVER, TIME_LIMIT, start
from repositories import commit_all
from samples import Pipeline

from ndpnet.cli import main
from ndpnet.folders import atomic_folder
from ndpnet.gc import UNITS, find_old, remove
from ndpnet.promotion.worktree import checked_out
from ndpnet.training.checkpoint import Checkpoint, only_process

DAY = UNITS["d"]
OLD = 30 * DAY


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an empty build/ and .work/."""
    for name in ("build", ".work"):
        (tmp_path / name).mkdir()
    return tmp_path


def run(place: Path) -> list[str]:
    """Remove what is older than two weeks. -> what that was"""
    leftovers = find_old(place / "build", place / ".work", 14 * DAY)
    assert not any([remove(each) for each in leftovers])
    assert not any(each.path.exists() for each in leftovers)
    return sorted(each.path.relative_to(place).as_posix() for each in leftovers)


def age(path: Path) -> Path:
    """Make a file, or a folder with all in it, old."""
    moment = time.time() - OLD
    for each in (*path.rglob("*"), path) if path.is_dir() else (path,):
        os.utime(each, (moment, moment))
    return path


def make_checkpoint(place: Path, number: int = 0) -> Path:
    folder = place / ".work/brick" / f"phase1-{number:016x}"
    checkpoint = Checkpoint(folder)
    checkpoint.save({"step": 1})
    checkpoint.append_history([{"step": 1.0}])
    return folder


def test_only_old_checkpoints_go(place: Path) -> None:
    old, new, lately_written = (make_checkpoint(place, number) for number in (1, 2, 3))
    (old / ".history.jsonl.0123456789ab.partial").touch()  # killed while the history was cut
    age(old)
    os.utime(age(lately_written) / "history.jsonl")
    assert run(place) == [".work/brick/phase1-0000000000000001"]
    assert Checkpoint(new).load() == Checkpoint(lately_written).load() == {"step": 1}


def _train(folder: str, has_begun: object) -> None:
    with only_process(Path(folder)):
        has_begun.set()
        time.sleep(TIME_LIMIT)  # no event: one that a killed process waits for can never be set again


def test_a_checkpoint_that_a_process_trains_with_stays(place: Path) -> None:
    folder = age(make_checkpoint(place))
    (about_to_go,) = find_old(place / "build", place / ".work", 14 * DAY)
    has_begun = SERVER.Event()
    process = start(_train, str(folder), has_begun)
    assert has_begun.wait(60)
    try:
        assert run(place) == []
        # one that begins between looking and removing is met by the lock
        assert remove(about_to_go) == "in use by now"
        assert Checkpoint(folder).load() == {"step": 1}
    finally:
        process.kill()
        process.join()
    assert run(place) == [".work/brick/phase1-0000000000000000"]


def test_what_has_another_name_or_lies_elsewhere_stays(
    place: Path, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in ("phase1-0123", "phase3-0000000000000000", "notes"):
        (place / ".work" / name).mkdir()
        (place / ".work" / name / "state.pt").write_text("mine")
    elsewhere = make_checkpoint(tmp_path_factory.mktemp("elsewhere"))
    (place / ".work/link").symlink_to(age(elsewhere).parent)
    (place / ".work" / elsewhere.name).symlink_to(elsewhere)
    for folder in (pipeline.model_dir, pipeline.phase1_dir, pipeline.bank_dir, pipeline.prepared_dir):
        shutil.copytree(folder, place / "build/brick" / folder.name)
    age(place / ".work")
    age(place / "build")
    assert run(place) == []
    assert elsewhere.exists()


def test_what_killed_processes_left_goes_unless_it_is_in_use(place: Path) -> None:
    left = place / "build/.model.0123456789ab.partial"
    left.mkdir()
    (left / "config.json").write_text("{}")
    file = place / "build/.metrics.json.0123456789ab.partial"
    file.write_text("x")
    fetching = place / ".work/.data.0123456789ab.fetching"
    fetching.mkdir()
    with atomic_folder(place / "build/model", marker="config.json") as folder:
        (folder / "config.json").write_text("{}")
        for path in (left, file, fetching, folder):
            age(path)
        assert run(place) == [path.relative_to(place).as_posix() for path in (fetching, file, left)]
    assert sorted(path.name for path in (place / "build").rglob("*")) == [".ndpnet.json", "config.json", "model"]


def test_a_model_that_stepped_aside_and_never_came_back_stays(place: Path, pipeline: Pipeline) -> None:
    # a process killed between the two renames of atomic_folder leaves the old model under this name alone
    aside = place / "build/.model.0123456789ab.partial"
    shutil.copytree(pipeline.model_dir, aside)
    age(aside)
    assert run(place) == []
    shutil.copytree(aside, place / "build/model")
    assert run(place) == ["build/.model.0123456789ab.partial"]


def test_a_reproduced_tree_goes(place: Path) -> None:
    folder, commit = place / ".work/reproduce/ndpnet-brick-1", commit_all(place)
    with checked_out(place, commit, folder, is_kept=True):
        age(folder)
        assert run(place) == []
    assert run(place) == [".work/reproduce/ndpnet-brick-1"]
    with checked_out(place, commit, folder):  # git has forgotten the first one
        assert folder.is_dir()
    assert list((place / ".work/reproduce").iterdir()) == []


def test_the_verb_shows_first_and_removes_then(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gc(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["gc", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    monkeypatch.chdir(place)
    folder = age(make_checkpoint(place))
    shown = gc("--dry-run")
    assert shown.startswith("would remove ")
    assert shown.endswith(f"{folder}\n")
    assert folder.exists()
    assert gc("--work-dir", ".work", "--build-dir", ".work").startswith("removed ")  # the same folder is looked at once
    assert not folder.exists()
    assert gc() == "nothing to remove\n"
    assert "is no age" in CliRunner().invoke(main, ["gc", "--older-than", "long"]).output
