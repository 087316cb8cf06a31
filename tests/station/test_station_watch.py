"""Watched folders: which files are complete, and that each enters the journal once."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from sqlalchemy import text
from stations import config_of, intake_of, picture, put

from ndpnet.station.journal import Judgement
from ndpnet.station.store import Intake
from ndpnet.station.watch import FolderWatch


class Bench:
    """A watched folder without a judge."""

    def __init__(self, folder: Path, **line):
        self.folder, self.line = folder, line
        self.root = folder / "in"
        self.restart()

    def restart(self):
        """What a killed station does when it is started again."""
        config = config_of(self.folder, self.folder / "model", wall=self.line, server={"max_waiting": 3})
        self.intake = intake_of(config)
        self.journal, self.watch = self.intake.journal, FolderWatch(config.lines[0], self.intake)

    def names(self):
        return [row["name"] for row in self.journal.rows(text("SELECT name FROM pictures ORDER BY id"))]


def test_files_renamed_into_place_are_taken_once_oldest_first_from_sub_folders_too(tmp_path):
    bench = Bench(tmp_path)
    for age, name in ((1, "new.png"), (2, "a/b/old.jpg")):
        put(bench.root / name, picture(age))
        os.utime(bench.root / name, (1e9 - age, 1e9 - age))
    assert bench.watch.look() == 2
    assert bench.watch.look() == 0
    assert bench.names() == ["a/b/old.jpg", "new.png"]
    stored = bench.journal.rows(text("SELECT file FROM pictures WHERE name = 'new.png'"))[0]["file"]
    assert (bench.journal.place.parent / stored).read_bytes() == picture(1)
    bench.restart()
    assert bench.watch.look() == 0


@pytest.mark.parametrize("name", [".hidden.png", "half.png.partial", "half.tmp", "notes.txt", "a.png.part"])
def test_what_is_no_picture_yet_is_left_alone(tmp_path, name):
    bench = Bench(tmp_path)
    (bench.root / name).write_bytes(picture())
    assert bench.watch.look() == 0


def test_a_picture_without_an_ending_is_named_once(tmp_path, caplog):
    bench = Bench(tmp_path)
    (bench.root / "noend").write_bytes(picture())
    (bench.root / "readme").write_text("notes")
    os.mkfifo(bench.root / "pipe")  # to open it would wait for ever
    assert [bench.watch.look(), bench.watch.look()] == [0, 0]
    (record,) = caplog.records
    assert record.getMessage().endswith("noend is a picture without an ending, not taken (name it as .png)")


def test_what_cannot_be_read_or_moved_is_named_once_and_stops_no_other(tmp_path, caplog, monkeypatch):
    bench, scan = Bench(tmp_path, done_dir="done"), os.scandir
    (tmp_path / "done").mkdir()
    (tmp_path / "done/a").write_text("a file where a folder is needed")
    for name in ("a/first.png", "second.png", "lost+found/third.png"):
        put(bench.root / name, picture())

    def refusing(folder):  # root may read everything
        if str(folder).endswith("lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scan(folder)

    monkeypatch.setattr("ndpnet.station.watch.os.scandir", refusing)
    assert [bench.watch.look(), bench.watch.look()] == [2, 0]
    monkeypatch.undo()
    assert (tmp_path / "done/second.png").exists()
    said = sorted(record.getMessage() for record in caplog.records)
    assert [line.split(" cannot be ")[0] for line in said] == [f"wall: {bench.root}/lost+found", "wall: a/first.png"]


def test_a_link_to_pictures_elsewhere_is_not_followed_and_said_once(tmp_path, caplog):
    bench = Bench(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    put(tmp_path / "elsewhere/a.png", picture())
    (bench.root / "link.png").symlink_to(tmp_path / "elsewhere/a.png")
    (bench.root / "folder").symlink_to(tmp_path / "elsewhere")
    (bench.root / "notes").symlink_to(tmp_path / "nothing")
    assert [bench.watch.look(), bench.watch.look()] == [0, 0]
    assert {record.args[1] for record in caplog.records} == {str(bench.root / name) for name in ("link.png", "folder")}
    assert len(caplog.records) == 2


def test_a_file_that_grows_is_complete_once_it_has_been_unchanged_for_the_time(tmp_path, monkeypatch):
    bench = Bench(tmp_path, settle_seconds=2.0)
    now = [100.0]
    monkeypatch.setattr("ndpnet.station.watch.time.monotonic", lambda: now[0])
    content, path = picture(), bench.root / "slow.png"
    path.write_bytes(content[:100])
    assert bench.watch.look() == 0
    now[0] += 1.9
    path.write_bytes(content)
    assert bench.watch.look() == 0
    now[0] += 1.9
    assert bench.watch.look() == 0
    now[0] += 0.2
    assert bench.watch.look() == 1


@pytest.mark.parametrize(("done_dir", "left"), [(None, [2]), ("done", [])])
def test_another_file_of_the_same_name_is_another_picture_and_replaces_none_where_files_are_moved(
    tmp_path, done_dir, left
):
    bench = Bench(tmp_path, done_dir=done_dir)
    for seed in (1, 2):
        put(bench.root / "a/part.png", picture(seed))
        os.utime(bench.root / "a/part.png", (1e9 + seed, 1e9 + seed))
        assert bench.watch.look() == 1
    assert bench.names() == ["a/part.png", "a/part.png"]
    moved = sorted(path.read_bytes() for path in (tmp_path / "done").rglob("*.png"))
    assert moved == (sorted([picture(1), picture(2)]) if done_dir else [])
    assert [path.read_bytes() for path in bench.root.rglob("*.png")] == [picture(seed) for seed in left]


def test_killed_between_journal_and_move_it_is_moved_and_not_taken_twice(tmp_path):
    bench = Bench(tmp_path, done_dir="done")
    put(bench.root / "part.png", picture())
    shutil.copy2(bench.root / "part.png", tmp_path / "copy.png")
    bench.watch.look()
    shutil.copy2(tmp_path / "copy.png", bench.root / "part.png")  # as if it had not been moved
    bench.restart()
    assert bench.watch.look() == 0
    assert bench.names() == ["part.png"]
    assert not (bench.root / "part.png").exists()


def test_a_picture_that_takes_a_name_before_the_last_one_is_moved_is_taken_next(tmp_path, monkeypatch):
    bench, enter = Bench(tmp_path, done_dir="done"), Intake.enter
    put(bench.root / "latest.png", picture(1))

    def replaced_once(*entry):
        monkeypatch.undo()
        result = enter(bench.intake, *entry)
        put(bench.root / "latest.png", picture(2))
        return result

    monkeypatch.setattr(bench.intake, "enter", replaced_once)
    assert [bench.watch.look() for _ in range(3)] == [1, 1, 0]
    files = bench.journal.rows(text("SELECT file FROM pictures ORDER BY id"))
    assert [bench.intake.store.read(row["file"]) for row in files] == [picture(1), picture(2)]
    assert [path.read_bytes() for path in (tmp_path / "done").iterdir()] == [picture(2)]  # the first one is replaced


def test_files_that_wait_together_enter_in_one_transaction_but_not_behind_many_bytes(tmp_path, monkeypatch):
    bench = Bench(tmp_path, done_dir="done")
    for max_bytes, num_transactions in ((1e9, 1), (1, 3)):
        for seed in range(3):
            put(bench.root / f"{seed}.png", picture(seed))
        monkeypatch.setattr("ndpnet.station.watch.MAX_BYTES", max_bytes)
        assert bench.watch.look() == 3
        entered = bench.journal.next_pictures(["wall"])
        assert len({row["received_at"] for row in entered}) == num_transactions
        for row in entered:
            bench.journal.finish(row["id"], Judgement("error"))


@pytest.mark.parametrize(
    ("code", "num_taken", "left"), [(errno.EACCES, 2, ["1.png"]), (errno.ENOSPC, 1, ["0.png", "1.png", "2.png"])]
)
def test_one_that_cannot_be_stored_keeps_none_that_is_from_the_journal(tmp_path, monkeypatch, code, num_taken, left):
    bench, stored = Bench(tmp_path, done_dir="done"), Intake.stored
    for seed in range(3):
        put(bench.root / f"{seed}.png", picture(seed))
        os.utime(bench.root / f"{seed}.png", (1e9 + seed, 1e9 + seed))

    def failing(line, name, *entry):
        if name == "1.png":
            raise OSError(code, os.strerror(code))
        return stored(bench.intake, line, name, *entry)

    with monkeypatch.context() as patch:
        patch.setattr(bench.intake, "stored", failing)
        if code == errno.ENOSPC:
            with pytest.raises(OSError, match="No space left"):
                bench.watch.look()
        else:
            assert bench.watch.look() == num_taken
    assert len(bench.names()) == num_taken
    assert sorted(path.name for path in bench.root.iterdir()) == left
    for _ in range(2):  # there is room again
        bench.watch.look()
    assert sorted(bench.names()) == ["0.png", "1.png", "2.png"]
    assert not list(bench.root.iterdir())


def test_while_too_many_wait_files_stay_where_they_are_and_are_not_listed_anew(tmp_path, monkeypatch):
    bench = Bench(tmp_path, done_dir="done")
    for seed in range(5):
        put(bench.root / f"{seed}.png", picture(seed))
    assert bench.watch.look() == 3
    assert len(list(bench.root.glob("*.png"))) == 2
    stored = list((bench.journal.place.parent / "pictures").rglob("*.png"))
    assert len(stored) == 3
    for row in bench.journal.next_pictures(["wall"]):
        bench.journal.finish(row["id"], Judgement("error"))
    with monkeypatch.context() as patched:
        patched.setattr(
            "os.scandir", lambda path: pytest.fail("a large folder would be listed for a few files each time")
        )
        assert (bench.watch.look(), bench.watch.scan_seconds) == (2, 0.0)
    assert (bench.watch.look(), list(bench.root.glob("*.png"))) == (0, [])


def test_a_name_that_is_no_utf_8_is_a_name(tmp_path):
    bench = Bench(tmp_path, done_dir="done")
    path = os.fsencode(bench.root) + b"/caf\xe9.png"
    with open(path, "wb") as stream:  # noqa: PTH123 - pathlib has no bytes
        stream.write(picture())
    assert bench.watch.look() == 1
    assert bench.names() == ["caf\\xe9.png"]
    assert os.listdir(os.fsencode(tmp_path / "done")) == [b"caf\xe9.png"]  # noqa: PTH208
