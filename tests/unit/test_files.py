"""Atomic files and folders, and content hashes."""

import json
from pathlib import Path

import pytest

from ndpnet.files import atomic_folder, hash_of, sha256_of, write_json, write_text


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
    with pytest.raises(ValueError, match=r"cannot write .*file/out: .* \(choose a folder"), atomic_folder(out):
        pass
    with pytest.raises(ValueError, match=r"/file: a file has this name"), atomic_folder(tmp_path / "file"):
        pass


def test_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    out_dir = tmp_path / "deep" / "out"
    with atomic_folder(out_dir) as partial_dir:
        (partial_dir / "old").write_text("1")
        assert partial_dir.parent == out_dir.parent
        assert not out_dir.exists()
    with atomic_folder(out_dir) as partial_dir:
        (partial_dir / "new").write_text("2")
    assert [child.name for child in out_dir.iterdir()] == ["new"]
    assert [child.name for child in out_dir.parent.iterdir()] == ["out"]


def test_failure_leaves_the_old_folder(tmp_path: Path) -> None:
    out_dir = tmp_path / "out"
    out_dir.mkdir()
    (out_dir / "old").write_text("1")
    with pytest.raises(RuntimeError, match="halfway"), atomic_folder(out_dir) as partial_dir:
        (partial_dir / "new").write_text("2")
        raise RuntimeError("halfway")
    assert (out_dir / "old").read_text() == "1"
    assert [child.name for child in tmp_path.iterdir()] == ["out"]
