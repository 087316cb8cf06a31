"""The demo surfaces: three photographs of scikit-image (CC0), cut and damaged into MVTec's layout."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ndpnet.data.demo_defects import RENDERERS, Draws, draw_defect
from ndpnet.data.png import encode_png
from ndpnet.files import write_json
from ndpnet.folders import atomic_folder, scratch_folder, sizes_below

DEMO_GROUP_PATTERN = r"_(r\d+c\d+)_"
WINDOW = 128
CELL = 136  # pixels, of the enlarged photograph: disjoint cells, so no pixel is in two splits
NUM_CELLS = 6  # a side
NUM_TEST_CELLS = 8
WINDOWS_PER_CELL = 4
NUM_TEST_GOOD = 24
NUM_PER_DEFECT = 8
PIXELS_SHA256 = {
    "brick": "664a145c5253f0d66db1a12776785f0ea35a44cc7447ffc933f6d6118dc58643",
    "grass": "b18dae4c68bf850a7a7b28a29d1846c76be890665117b57fd125fe29c4d4ede6",
    "gravel": "3d51ad45f789cd8b98534b7af6bce774e499ead45421135afd757358c7230009",
}
DEMO_CATEGORIES = tuple(PIXELS_SHA256)
LICENCE = "CC0 1.0, as scikit-image says of its photographs"
SOURCE = "skimage.data of scikit-image, enlarged, cut and damaged by `ndpnet demo-data`"


def _cells() -> list[str]:
    """Return the names of all cells in the order of hashes: which of them test is left to chance, not to a choice."""
    names = [f"r{row}c{column}" for row in range(1, NUM_CELLS + 1) for column in range(1, NUM_CELLS + 1)]
    return sorted(names, key=lambda name: hashlib.sha256(f"test {name}".encode()).digest())


TEST_CELLS = tuple(sorted(_cells()[:NUM_TEST_CELLS]))
TRAIN_CELLS = tuple(sorted(_cells()[NUM_TEST_CELLS:]))  # `prepare` takes calibration and validation from these


def make_demo_data(out_dir: Path) -> dict[str, dict[str, int]]:
    """Write the categories in MVTec's layout, the same bytes on every machine; return counts per category.

    Earlier demo categories are replaced, whatever else is in `out_dir` stays. ValueError: one has other files.
    """
    photographs = {category: _photograph(category) for category in DEMO_CATEGORIES}
    counts = {}
    for number, (category, photograph) in enumerate(photographs.items()):
        marker = f"train/good/{category}_{TRAIN_CELLS[0]}_00.png"
        with scratch_folder(Path(out_dir) / "demo") as made_dir:
            draws, of_category = Draws(number), (category, photograph)
            windows = choose_windows(draws, TRAIN_CELLS, len(TRAIN_CELLS) * WINDOWS_PER_CELL)
            num_train = _write_good(made_dir / "train/good", *of_category, windows, len(TRAIN_CELLS))
            windows = choose_windows(draws, TEST_CELLS, NUM_TEST_GOOD)
            num_good = _write_good(made_dir / "test/good", *of_category, windows, 1)
            num_defective = _write_defective(made_dir, *of_category, draws)
            source = {"category": category, "layout": "demo", "licence": LICENCE, "source": SOURCE}
            write_json(made_dir / "import.json", source)  # as `ndpnet import` says it: models carry the licence on
            # no list of files: this data is pinned, and its pin stands in data.dvc
            with atomic_folder(Path(out_dir) / category, marker=marker, known=sizes_below(made_dir)) as folder:
                for path in made_dir.iterdir():
                    path.rename(folder / path.name)
        counts[category] = {"train_good": num_train, "test_good": num_good, "test_defective": num_defective}
    return counts


def choose_windows(draws: Draws, cells: Sequence[str], num_windows: int) -> list[tuple[str, int, int]]:
    """Return (cell, top, left) of different windows at random offsets in their cells, the cells in turn."""
    windows: list[tuple[str, int, int]] = []
    while len(windows) < num_windows:
        cell = cells[len(windows) % len(cells)]
        row, column = (int(number) - 1 for number in cell[1:].split("c"))
        offset_y, offset_x = (draws.integer(0, CELL - WINDOW + 1) for _ in "yx")
        window = (cell, row * CELL + offset_y, column * CELL + offset_x)
        if window not in windows:
            windows.append(window)
    return windows


def enlarge(photograph: np.ndarray, size: int) -> np.ndarray:
    """Enlarge bilinearly, in integers: the same bytes on every machine. uint8 (S, S) -> uint8 (size, size)."""
    old_size = len(photograph)
    # centres of the new pixels in units of 1/(2 size) old pixels, held inside the outermost old centres
    places = ((2 * np.arange(size) + 1) * old_size - size).clip(0, 2 * size * (old_size - 1))
    low, weight = np.divmod(places, 2 * size)
    high = np.minimum(low + 1, old_size - 1)
    levels = photograph.astype(np.int64)
    rows = levels[low] * (2 * size - weight)[:, None] + levels[high] * weight[:, None]
    total = rows[:, low] * (2 * size - weight) + rows[:, high] * weight
    return ((total + 2 * size * size) // (4 * size * size)).astype(np.uint8)


def _photograph(category: str) -> np.ndarray:
    """Return the photograph from scikit-image's wheel, enlarged from 512 pixels. -> uint8 (816, 816)."""
    from skimage import data  # heavy, and needed by the demo alone

    photograph = getattr(data, category)()
    if hashlib.sha256(photograph.tobytes()).hexdigest() != PIXELS_SHA256[category]:
        raise ValueError(f"scikit-image's picture {category!r} is another than the demo's (install scikit-image 0.26)")
    return enlarge(photograph, NUM_CELLS * CELL)


def _cut(photograph: np.ndarray, top: int, left: int) -> np.ndarray:
    return photograph[top : top + WINDOW, left : left + WINDOW]


def _write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))


def _write_good(
    folder: Path, category: str, photograph: np.ndarray, windows: Sequence[tuple[str, int, int]], num_cells: int
) -> int:
    """Good pictures by the name of their cell, numbered in rounds over `num_cells`. -> how many"""
    for number, (cell, top, left) in enumerate(windows):
        _write_png(folder / f"{category}_{cell}_{number // num_cells:02d}.png", _cut(photograph, top, left))
    return len(windows)


def _write_defective(category_dir: Path, category: str, photograph: np.ndarray, draws: Draws) -> int:
    for kind in RENDERERS:
        for number, (cell, top, left) in enumerate(choose_windows(draws, TEST_CELLS, NUM_PER_DEFECT)):
            surface = _cut(photograph, top, left)
            image, mask = draw_defect(surface, kind, hardness=number / (NUM_PER_DEFECT - 1), draws=draws)
            stem = f"{category}_{cell}_{number:02d}"
            _write_png(category_dir / "test" / kind / f"{stem}.png", image)
            _write_png(category_dir / "ground_truth" / kind / f"{stem}_mask.png", mask)
    return len(RENDERERS) * NUM_PER_DEFECT
