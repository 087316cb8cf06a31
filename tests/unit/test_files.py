"""Atomic files and folders, and content hashes."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ndpnet.files import as_cells, write_json, write_text
from ndpnet.folders import LIST, atomic_folder, check_apart, check_output, scratch_folder, sizes_below


def test_json_is_sorted_indented_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    write_json(path, {"b": 1, "a": "ü"})
    assert path.read_bytes() == b'{\n  "a": "\\u00fc",\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": "ü", "b": 1}
    assert [child.name for child in path.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("text", "cell"),
    [("=1+1", "'=1+1"), ("-1", "'-1"), ("a=b", "a=b"), ("a\rb.png", "a\\rb.png"), ("\r=1", "\\r=1")],
)
def test_cells_compute_nothing_and_end_no_row(text: str, cell: str) -> None:
    assert as_cells({"path": text, "score": -1.5}) == {"path": cell, "score": -1.5}


def test_a_name_that_is_no_utf_8_is_written_as_it_is(tmp_path: Path) -> None:
    write_text(tmp_path / "names.csv", os.fsdecode(b"\xff.png"))
    assert (tmp_path / "names.csv").read_bytes() == b"\xff.png"


def test_a_parent_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    with pytest.raises(ValueError, match=r"cannot write .*file/out: .* \(choose a folder you can write to\)$"):
        write_text(out, "x")
    for refused, message in ((out, r"cannot write .*file/out: .* \(choose a folder"), (out.parent, "a file has this")):
        with pytest.raises(ValueError, match=message), atomic_folder(refused, marker="made"):
            pass
    assert [child.name for child in tmp_path.iterdir()] == ["file"]


def make(out_dir: Path, content: str = "1") -> Path:
    with atomic_folder(out_dir, marker="made") as folder:
        (folder / "made").write_text(content)
    return out_dir


@pytest.mark.parametrize("has_exchange", [True, False])
def test_folder_replaces_the_old_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_exchange: bool) -> None:
    if not has_exchange:  # as of NFS
        monkeypatch.setattr("ndpnet.folders._exchange", lambda *_: False)
    out_dir = tmp_path / "deep" / "out"
    with atomic_folder(out_dir, marker="made") as partial_dir:
        (partial_dir / "made").write_text("1")
        (partial_dir / "old").write_text("1")
        assert partial_dir.parent == out_dir.parent
        assert not out_dir.exists()
    make(out_dir, "2")
    assert sorted(child.name for child in out_dir.iterdir()) == [LIST, "made"]
    assert json.loads((out_dir / LIST).read_text()) == {"marker": "made", "files": {"made": 1}}
    assert (out_dir / "made").read_text() == "2"
    assert [child.name for child in out_dir.parent.iterdir()] == ["out"]


def test_a_folder_that_is_replaced_never_lacks_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out_dir, rename = make(tmp_path / "out"), Path.rename

    def move(path: Path, target: Path) -> Path:
        assert path != out_dir, "a kill after this would leave no folder"
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", move)
    make(out_dir, "22")
    assert (out_dir / "made").read_text() == "22"
    assert [child.name for child in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("has_exchange", [True, False])
def test_what_a_kill_left_of_a_replaced_folder_is_nobodys_unfinished_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_exchange: bool
) -> None:
    if not has_exchange:
        monkeypatch.setattr("ndpnet.folders._exchange", lambda *_: False)
    out_dir = make(tmp_path / "out")
    with monkeypatch.context() as patch:  # killed before the old folder is removed
        patch.setattr("ndpnet.folders.shutil.rmtree", lambda *_, **__: None)
        patch.setattr("ndpnet.folders._remove_abandoned", lambda *_: None)
        with atomic_folder(out_dir, marker="made", key="same") as folder:
            (folder / "made").write_text("22")
    with atomic_folder(out_dir, marker="made", key="same") as folder:
        assert not any(folder.iterdir())
        (folder / "made").write_text("333")
    assert [child.name for child in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_content_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "mother.png").write_bytes(b"dear")
    monkeypatch.chdir(pictures)
    for out_dir in (pictures, Path(), tmp_path / "pictures" / "..", Path("..")):
        with pytest.raises(ValueError, match=r"^will not replace folder /.* it has .*mother\.png, which ndpnet did"):
            check_output(out_dir, marker="made")
        with pytest.raises(ValueError, match="will not replace"), atomic_folder(out_dir, marker="made"):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["pictures", "mother.png"]


def test_what_was_added_to_an_output_or_changed_there_is_never_lost(tmp_path: Path) -> None:
    out_dir = make(tmp_path / "out")
    (out_dir / "Thumbs.db").write_text("litter")
    make(out_dir)  # as it was written, but for litter
    assert not (out_dir / "Thumbs.db").exists()
    (out_dir / ".git").mkdir()
    (out_dir / ".git/config").write_text("mine")
    for name in ("a.txt", "b.txt", "c.txt"):
        (out_dir / name).write_text("mine")
    before = sizes_below(out_dir)
    with pytest.raises(ValueError, match=r"it has \.git/config, a\.txt, b\.txt and 1 more, which ndpnet did not write"):
        make(out_dir)
    assert sizes_below(out_dir) == before
    for name in (".git/config", "a.txt", "b.txt", "c.txt"):
        (out_dir / name).unlink()
    (out_dir / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="it has link, which"):
        make(out_dir)
    (out_dir / "link").unlink()
    (out_dir / "made").write_text("corrected by hand")
    with pytest.raises(ValueError, match="it has made, which ndpnet did not write there, or not so"):
        make(out_dir)
    (out_dir / LIST).unlink()  # as outputs of earlier versions are, and folders that are none
    with pytest.raises(ValueError, match=r"it has made, which .* \(move that elsewhere, or choose another folder\)$"):
        make(out_dir)
    assert (out_dir / "made").read_text() == "corrected by hand"


def test_what_is_added_while_an_output_is_written_stays(tmp_path: Path) -> None:
    out_dir = make(tmp_path / "out")

    def write() -> None:
        with atomic_folder(out_dir, marker="made") as folder:
            (folder / "made").write_text("2")
            (out_dir / "notes.txt").write_text("mine")

    with pytest.raises(ValueError, match=r"it has notes\.txt, which"):
        write()
    assert sizes_below(out_dir) == {LIST: (out_dir / LIST).stat().st_size, "made": 1, "notes.txt": 4}


def test_known_files_stand_for_a_list(tmp_path: Path) -> None:
    for _ in range(2):
        with atomic_folder(tmp_path / "out", marker="made", known={"made": 1}) as folder:
            (folder / "made").write_text("1")
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["made"]
    with pytest.raises(ValueError, match="it has made, which"):
        check_output(tmp_path / "out", marker="made", known={"made": 2})


def test_an_output_and_its_inputs_lie_apart(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    for out_dir in (tmp_path, tmp_path / "in/new/out", tmp_path / "link/out"):
        with pytest.raises(ValueError, match=r"the output .* and the input .*/in lie in one another \(choose another"):
            check_apart(out_dir, Path("/elsewhere"), tmp_path / "in")
    for out_dir in (tmp_path / "in 2", tmp_path / "link"):
        check_apart(out_dir, tmp_path / "in")


def test_a_mount_point_is_refused_at_the_start(tmp_path: Path) -> None:
    place = tmp_path / "a place"
    place.mkdir()
    source = tmp_path / "source"
    source.mkdir()
    command = ["mount", "--bind", str(source), str(place)]  # as docker -v does
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount here")
    try:
        with pytest.raises(
            ValueError, match=r"cannot replace folder .*a place: it is a mount point \(choose a folder in"
        ):
            check_output(place, marker="made")
        assert sizes_below(make(place / "out"))["made"] == 1
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_files_follow_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        with atomic_folder(tmp_path / "out", marker="made") as folder:
            (folder / "made").touch(mode=0o600)  # as safetensors writes weights
            (folder / "deep").mkdir()
            (folder / "deep/tool").touch(mode=0o444)
    finally:
        os.umask(umask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*")}
    assert modes == {LIST: 0o640, "made": 0o640, "deep": 0o750, "tool": 0o640}


def test_an_empty_folder_or_a_link_to_one_is_filled(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    with atomic_folder(tmp_path / "out", marker="made") as partial_dir:
        (partial_dir / "made").write_text("1")
    assert (tmp_path / "disk" / "made").read_text() == "1"
    assert (tmp_path / "out").is_symlink()
    assert sorted(child.name for child in tmp_path.iterdir()) == ["disk", "out"]


def test_a_scratch_folder_is_empty_and_does_not_stay(tmp_path: Path) -> None:
    abandoned_dir = tmp_path / ".work.0123456789ab.partial"
    abandoned_dir.mkdir()
    with scratch_folder(tmp_path / "work") as first, scratch_folder(tmp_path / "work") as second:
        assert not abandoned_dir.exists()
        assert first != second
        (first / "x").write_text("kept while it is in use")
        assert list(second.iterdir()) == []
        assert (first / "x").exists()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^cannot write .*/work: Not a directory"):
        scratch_folder(tmp_path / "file" / "work").__enter__()


def test_a_scratch_folder_with_a_key_outlives_a_failure(tmp_path: Path) -> None:
    def bring(name: str) -> None:
        with scratch_folder(tmp_path / "work", key="0" * 12) as folder:
            (folder / name).write_text("brought")
            with pytest.raises(ValueError, match=r"^another process writes .*/work \(wait for it"):
                scratch_folder(tmp_path / "work", key="0" * 12).__enter__()
            raise OSError("the disk")

    for name, kept in ((".notes", []), ("x", [tmp_path / ".work.000000000000.fetching/x"])):
        with pytest.raises(OSError, match="the disk"):
            bring(name)
        assert list(tmp_path.glob("*/*")) == kept
    with scratch_folder(tmp_path / "work", key="0" * 12) as folder:
        assert (folder / "x").read_text() == "brought"
    assert list(tmp_path.iterdir()) == []
