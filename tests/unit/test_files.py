"""Atomic files and folders, and content hashes."""

import json
from pathlib import Path

import pytest

from ndpnet.files import atomic_folder, check_output, hash_of, scratch_folder, sha256_of, write_json, write_text


def test_hashes_are_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    # sha256 of the two bytes {}
    assert hash_of({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert hash_of({"b": 1, "a": [1.5, None]}) == hash_of({"a": [1.5, None], "b": 1})
    assert hash_of({"a": 1}) != hash_of({"a": 1.0})


def test_json_is_sorted_indented_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    write_json(path, {"b": 1, "a": "ü"})
    assert path.read_bytes() == b'{\n  "a": "\\u00fc",\n  "b": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": "ü", "b": 1}
    assert [child.name for child in path.parent.iterdir()] == ["a.json"]


def test_a_parent_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    with pytest.raises(ValueError, match=r"cannot write .*file/out: .* \(choose a folder you can write to\)$"):
        write_text(out, "x")
    for refused, message in ((out, r"cannot write .*file/out: .* \(choose a folder"), (out.parent, "a file has this")):
        with pytest.raises(ValueError, match=message), atomic_folder(refused, marker="made"):
            pass
    assert [child.name for child in tmp_path.iterdir()] == ["file"]


def test_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    out_dir = tmp_path / "deep" / "out"
    with atomic_folder(out_dir, marker="made") as partial_dir:
        (partial_dir / "made").write_text("1")
        (partial_dir / "old").write_text("1")
        assert partial_dir.parent == out_dir.parent
        assert not out_dir.exists()
    with atomic_folder(out_dir, marker="made") as partial_dir:
        (partial_dir / "made").write_text("2")
    assert [child.name for child in out_dir.iterdir()] == ["made"]
    assert (out_dir / "made").read_text() == "2"
    assert [child.name for child in out_dir.parent.iterdir()] == ["out"]


def test_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    (out_dir / "made").write_text("1")

    def write_half() -> None:
        with atomic_folder(out_dir, marker="made") as partial_dir:
            (partial_dir / "made").write_text("2")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert (out_dir / "made").read_text() == "1"
    assert [child.name for child in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_content_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "mother.png").write_bytes(b"dear")
    monkeypatch.chdir(pictures)
    for out_dir in (pictures, Path(), tmp_path / "pictures" / "..", Path("..")):
        with pytest.raises(ValueError, match=r"^will not replace folder /.* no made \(choose a new or empty one\)$"):
            check_output(out_dir, marker="made")
        with pytest.raises(ValueError, match="will not replace"), atomic_folder(out_dir, marker="made"):
            pass
    assert [path.name for path in tmp_path.rglob("*")] == ["pictures", "mother.png"]


def test_an_empty_folder_or_a_link_to_one_is_filled(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    with atomic_folder(tmp_path / "out", marker="made") as partial_dir:
        (partial_dir / "made").write_text("1")
    assert (tmp_path / "disk" / "made").read_text() == "1"
    assert (tmp_path / "out").is_symlink()
    assert sorted(child.name for child in tmp_path.iterdir()) == ["disk", "out"]


def test_checking_an_output_leaves_nothing(tmp_path: Path) -> None:
    check_output(tmp_path / "out", marker="made")
    assert list(tmp_path.iterdir()) == []


def test_checking_makes_no_parents_either(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b" / "out", marker="made")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    abandoned_dir = tmp_path / ".out.0123456789ab.partial"
    abandoned_dir.mkdir()
    (abandoned_dir / "half").write_bytes(b"x")
    with atomic_folder(out_dir, marker="made") as living_dir:
        (living_dir / "made").write_text("first")
        with atomic_folder(out_dir, marker="made") as partial_dir:
            (partial_dir / "made").write_text("second")
        assert not abandoned_dir.exists()
        assert (out_dir / "made").read_text() == "second"
        assert (living_dir / "made").read_text() == "first"
    assert (out_dir / "made").read_text() == "first"
    assert [child.name for child in tmp_path.iterdir()] == ["out"]


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


def test_an_interrupted_folder_with_a_key_is_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def write(key: str, name: str, error: BaseException | None = None) -> list[str]:
        with atomic_folder(out, marker="first", key=key) as folder:
            found = sorted(path.name for path in folder.iterdir())
            (folder / name).write_text(name)
            if error is not None:
                raise error
        return found

    with pytest.raises(KeyboardInterrupt):
        write("0123456789abcdef", "first", KeyboardInterrupt())
    assert not out.exists()
    with atomic_folder(out, marker="first", key="another"):  # other content begins anew
        with pytest.raises(
            ValueError, match=r"another process writes .*out \(wait for it; if there is none, remove .*par"
        ):
            write("another", "first")
        assert write("0123456789abcdef", "second") == ["first"]
        assert sorted(path.name for path in out.iterdir()) == ["first", "second"]
        (tmp_path / ".out.another.partial/first").write_text("")
    assert write("0123456789abcdef", "first") == []
    with pytest.raises(ValueError, match="a failure"):
        write("failing", "first", ValueError("a failure"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
