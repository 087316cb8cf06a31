"""Which files are pictures: each is listed, or named with the reason; nothing is left out in silence."""

import json
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded
from PIL import Image
from users import as_nobody, open_folder

from ndpnet.data.images import format_of, read_image
from ndpnet.data.listing import READ_SUFFIXES, kind_of, list_pictures
from ndpnet.folders import LIST


@pytest.mark.parametrize("suffix", [suffix for suffix in READ_SUFFIXES if suffix not in (".pbm", ".jpc", ".j2c")])
def test_a_picture_of_each_ending_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix.upper()}"
    grey = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    Image.fromarray(grey).save(path)
    assert kind_of(path) == "pictures"
    difference = np.abs(read_image(path).astype(int) - grey[:, :, None])
    assert difference.max() < 24  # some are lossy


def test_folders_that_cannot_be_entered_are_named() -> None:
    with open_folder() as folder:
        for name, mode in {"closed": 0o000, "listed": 0o744}.items():
            (folder / name).mkdir()
            (folder / name / "x.png").write_bytes(b"x")
            (folder / name).chmod(mode)
        with as_nobody():
            found = list_pictures(folder)
    assert not found.pictures
    closed, inner = found.problems.items()
    said = f"cannot read folder {folder}/closed: Permission denied (check its permissions)"
    assert closed == (folder / "closed", said)
    assert inner[0] == folder / "listed/x.png"
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
        assert kind_of(path) == "others"


def test_damaged_files_are_read_or_refused_in_one_line() -> None:
    rng = np.random.default_rng(0)
    whole = []
    for suffix in (".png", ".jpg", ".bmp", ".tif", ".webp", ".gif", ".jp2", ".ppm", ".avif", ".tga"):
        noise = Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8))
        whole.append((suffix, encoded(noise, Image.registered_extensions()[suffix])))
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
