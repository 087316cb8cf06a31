"""Which files are pictures: each is listed, or named with the reason; nothing is left out in silence."""

import json
import os
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from users import as_nobody, open_folder

from ndpnet.data.images import format_of, read_image
from ndpnet.data.listing import READ_SUFFIXES, UNREAD_SUFFIXES, Kind, kind_of, list_pictures
from ndpnet.folders import LIST


@pytest.fixture
def open_dir() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


def test_every_ending_that_is_said_to_be_read_is_one_that_the_decoder_reads() -> None:
    Image.init()
    formats = {suffix: Image.registered_extensions()[suffix] for suffix in READ_SUFFIXES}
    assert set(formats.values()) == {
        "PNG",
        "JPEG",
        "BMP",
        "DIB",
        "TIFF",
        "WEBP",
        "GIF",
        "TGA",
        "JPEG2000",
        "PPM",
        "AVIF",
    }
    assert all(features.check(name) for name in ("jpg_2000", "webp", "avif"))
    assert not set(READ_SUFFIXES) & set(UNREAD_SUFFIXES)


@pytest.mark.parametrize("suffix", [suffix for suffix in READ_SUFFIXES if suffix not in (".pbm", ".jpc", ".j2c")])
def test_a_picture_of_each_ending_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix.upper()}"
    grey = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    Image.fromarray(grey).save(path)
    assert kind_of(path) is Kind.PICTURE
    difference = np.abs(read_image(path).astype(int) - grey[:, :, None])
    assert difference.max() < 24  # some are lossy


def test_folders_that_cannot_be_entered_are_named(open_dir: Path) -> None:
    for name, mode in {"closed": 0o000, "listed": 0o744}.items():
        (open_dir / name).mkdir()
        (open_dir / name / "x.png").write_bytes(b"x")
        (open_dir / name).chmod(mode)
    with as_nobody():
        found = list_pictures(open_dir)
    assert not found.pictures
    closed, inner = found.problems.items()
    assert closed == (
        open_dir / "closed",
        f"cannot read folder {open_dir}/closed: Permission denied (check its permissions)",
    )
    assert inner[0] == open_dir / "listed/x.png"
    assert "Permission denied (check the file and its permissions)" in inner[1]
    with pytest.raises(ValueError, match=r"cannot read folder .*closed: Permission denied .*; and 1 more$"):
        found.checked()


def test_an_import_holds_pictures_to_work_on_and_an_inspection_does_not(tmp_path: Path) -> None:
    for name, marker in {"data": "import.json", "verdicts": "predictions.jsonl", "model": "reference.png"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"x")
        (tmp_path / name / LIST).write_text(json.dumps({"marker": marker, "files": {}}))
    found = list_pictures(tmp_path)
    assert found.pictures == [tmp_path / "data/x.png"]
    assert found.others == [tmp_path / "data" / LIST, tmp_path / "model", tmp_path / "verdicts"]


def test_text_is_no_picture_whatever_it_begins_with(tmp_path: Path) -> None:
    for number, text in enumerate(("BMW is a maker of cars", "P5 is a sign", "GIF", "II* and MM*", "")):
        path = tmp_path / f"note {number}"
        path.write_text(text)
        assert format_of(path) is None
        assert kind_of(path) is Kind.OTHER


NAMES = st.one_of(
    st.sampled_from(["a", "b", "ü", "=1", "a b", "-x", "' \n", ".hidden", "Thumbs.db", "x" * 120, "\udcff"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8),
)
ENDINGS = st.sampled_from(["", ".png", ".PNG", ".jpe", ".heic", ".txt", ".gif", ".tar.gz"])
CONTENTS = st.sampled_from(
    ["picture", "text", "fifo", "dangling", "to a file", "to a folder", "up", "empty folder", "output"]
)
TREES = st.lists(st.tuples(st.lists(NAMES, max_size=2), NAMES, ENDINGS, CONTENTS), max_size=12)


@given(tree=TREES)
@settings(max_examples=60, deadline=None)
def test_every_file_is_listed_or_named(tree: list[tuple[list[str], str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        for folders, name, ending, content in tree:
            grow(root.joinpath(*folders), name + ending, content)
        before = state_of(root)
        found = list_pictures(root)
        assert state_of(root) == before
        said = [*found.pictures, *found.problems, *found.others]
        assert len(said) == len(set(said))
        named = set(said)
        for path in entries_below(root):
            assert path in named or any(parent in named for parent in path.parents), path
        assert all(read_image(path).shape == (64, 64, 3) for path in found.pictures if b"PNG" in path.read_bytes()[:4])
        assert all(str(path) in reason for path, reason in found.problems.items())


def grow(folder: Path, name: str, content: str) -> None:
    """Put something into a tree, unless its place is taken."""
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) or name in (".", ".."):
            return
        if content in ("empty folder", "output"):
            path.mkdir()
        if content == "output":
            (path / "overlay.png").write_bytes(PICTURE)
            (path / LIST).write_text('{"marker": "predictions.jsonl", "files": {}}')
        elif content == "fifo":
            os.mkfifo(path)
        elif content in TARGETS:
            path.symlink_to(TARGETS[content])
        elif content in ("picture", "text"):
            path.write_bytes(PICTURE if content == "picture" else b"text")
    except (FileExistsError, NotADirectoryError):  # a file is where a folder should be
        return


TARGETS = {"dangling": "nowhere.png", "to a file": "/etc/hostname", "to a folder": "/usr/share/doc", "up": ".."}


def make_picture() -> bytes:
    stream = BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


PICTURE = make_picture()


def entries_below(root: Path) -> list[Path]:
    """All but real folders."""
    found = []
    for folder, folders, names in os.walk(root):
        found += [Path(folder) / name for name in names]
        found += [Path(folder) / name for name in folders if (Path(folder) / name).is_symlink()]
    return found


def state_of(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in root.rglob("*")}


def test_damaged_files_are_read_or_refused_in_one_line() -> None:
    rng = np.random.default_rng(0)
    whole = []
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp", ".gif", ".jp2", ".ppm", ".avif", ".tga"):
        stream = BytesIO()
        Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(
            stream, format=Image.registered_extensions()[suffix]
        )
        whole.append((suffix, stream.getvalue()))
    num_refused = 0
    for number in range(200):
        suffix, content = whole[number % len(whole)]
        damaged = bytearray(content)
        for _ in range(int(rng.integers(1, 20))):
            damaged[int(rng.integers(len(damaged)))] = int(rng.integers(256))
        if number % 3 == 0:
            del damaged[int(rng.integers(len(damaged))) :]
        refusal, pixels = None, None
        try:
            pixels = read_image(bytes(damaged), name=f"x{suffix}")
        except ValueError as error:
            refusal = str(error)
            num_refused += 1
        if pixels is None:
            assert refusal.startswith(f"cannot read x{suffix}: ")
            assert len(refusal.splitlines()) == 1
        else:
            assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)
    assert 100 < num_refused < 200
