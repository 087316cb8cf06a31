"""Arrays on disk: appended to, read as pictures of mixed sizes; a full disk is one line."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from disks import mounted
from samples import data_config

from ndpnet.data.arrays import ArrayAppender, Views


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    with mounted(tmp_path / "small disk", "1m") as folder:
        yield folder


@pytest.mark.parametrize("num_rows", [0, 1, 9, 10, 1000])
def test_appended_rows_come_back_from_a_plain_npy_file(tmp_path: Path, num_rows: int) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (num_rows, 4, 5, 3), dtype=np.uint8)
    with ArrayAppender(tmp_path / "a.npy", (4, 5, 3)) as appender:
        appender.append(rows[: num_rows // 2])
        for row in rows[num_rows // 2 :]:
            appender.append(row[:, ::-1][:, ::-1])  # no contiguous one
        assert appender.num_rows == num_rows
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows)


def test_views_are_the_pictures_without_a_copy(tmp_path: Path) -> None:
    shapes = [(2, 3, 3), (5, 4, 3), (1, 1, 3)]
    pictures = [np.random.default_rng(seed).integers(0, 256, shape, np.uint8) for seed, shape in enumerate(shapes)]
    with ArrayAppender(tmp_path / "a.npy") as appender:
        for picture in pictures:
            appender.append(picture)
    flat = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert flat.shape == (6 * 3 + 20 * 3 + 3,)
    views = Views(flat, shapes)
    assert len(views) == len(list(views)) == 3
    for view, picture in zip(views, pictures, strict=True):
        np.testing.assert_array_equal(view, picture)
        assert np.shares_memory(view, flat)
    np.testing.assert_array_equal(views[-1], pictures[2])
    assert [view.shape for view in views[1:]] == shapes[1:]
    with pytest.raises(IndexError):
        views[3]


def test_preparing_on_a_full_disk_leaves_the_earlier_result(small_disk: Path, tmp_path: Path) -> None:
    from ndpnet.data.prepared import prepare

    (tmp_path / "data/a/train/good").mkdir(parents=True)
    for number in range(3):
        save_noise(tmp_path / f"data/a/train/good/{number}.png", number)
    settings = data_config(image_size=128, group_pattern="", calibration_fraction=0.0, validation_fraction=0.0)
    prepare(tmp_path / "data", "a", small_disk / "out", settings)
    before = {path.name: path.read_bytes() for path in (small_disk / "out").iterdir()}
    for mode in ("resize", "tile"):
        larger = settings.model_copy(update={"image_size": 512, "mode": mode})
        with pytest.raises(ValueError, match=r"^cannot write .*/out: No space left on device"):
            prepare(tmp_path / "data", "a", small_disk / "out", larger)
    assert {path.name: path.read_bytes() for path in (small_disk / "out").iterdir()} == before
    assert [path.name for path in small_disk.iterdir()] == ["out"]


def save_noise(path: Path, seed: int) -> None:
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, compress_level=1)
