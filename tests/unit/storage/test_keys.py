"""Which keys may become files."""

from pathlib import Path

import pytest

from ndpnet.storage.keys import STATE_NAME, ClashCheck, is_case_sensitive, relative_path


@pytest.mark.parametrize(
    ("key", "prefix", "expected"),
    [
        ("a/b c/ü.png", "", "a/b c/ü.png"),
        ("a/b c/ü.png", "a/", "b c/ü.png"),
        ("a/...", "a/", "..."),
        ("a/back\\..\\slash", "a/", "back\\..\\slash"),
        ("a/" + "é" * 127, "a/", "é" * 127),
    ],
)
def test_keys_that_are_paths(key: str, prefix: str, expected: str) -> None:
    assert str(relative_path(key, prefix)) == expected


@pytest.mark.parametrize(
    "key",
    ["p/../x", "p/a/..", "p/..", "p/./x", "p//x", "p//etc/passwd", "p/a//b", "p/a/", "p/", "p/a\0b", "p/" + "é" * 128],
)
def test_keys_that_are_none(key: str) -> None:
    with pytest.raises(ValueError, match=r"^the key '") as caught:
        relative_path(key, "p/")
    assert repr(key) in str(caught.value)
    assert "rename the object" in str(caught.value)


def test_the_name_of_partial_downloads_is_taken() -> None:
    assert str(relative_path(f"a/{STATE_NAME}", "")) == f"a/{STATE_NAME}"
    with pytest.raises(ValueError, match="downloads keep for themselves"):
        relative_path(f"{STATE_NAME}/x", "")


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a/b"],
        ["a", "a!", "a!/c", "a-b", "a/b"],  # by bytes: what is between begins alike
        ["d/a", "d/a.png", "d/a/b/c"],
        ["d/a", "d/a/b", "e"],
    ],
)
def test_a_name_is_a_file_or_a_folder(names: list[str]) -> None:
    check = ClashCheck()
    with pytest.raises(ValueError, match="is an object and"):
        list(map(check.check, names))


def test_names_that_only_begin_alike_are_kept_apart_without_memory_of_all() -> None:
    check = ClashCheck()
    for number in range(100_000):
        check.check(f"{number:06}/a")
        check.check(f"{number:06}/a.png")
        check.check(f"{number:06}/ab")
    assert len(check._beginnings) < 4
    check.check("A")
    check.check("a")


def test_case_on_a_disk_that_ignores_it() -> None:
    check = ClashCheck(is_case_sensitive=False)
    check.check("train/Ü1.PNG")
    check.check("train/u1.png")
    with pytest.raises(ValueError, match=r"'train/ü1.png' differs from another object by case alone"):
        check.check("train/ü1.png")


def test_this_disk_tells_case_apart(tmp_path: Path) -> None:
    folder = tmp_path / STATE_NAME
    folder.mkdir()
    assert is_case_sensitive(folder)
    (tmp_path / STATE_NAME.upper()).mkdir()  # as it looks where case is ignored
    assert not is_case_sensitive(folder)
