"""The demo surfaces: three photographs of scikit-image (CC0), cut and damaged into MVTec's layout."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ndpnet.data.demo_defects import RENDERERS, Draws, draw_defect
from ndpnet.data.png import encode_png
from ndpnet.files import as_json
from ndpnet.folders import atomic_folder

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
    counts = {}
    photographs = {category: _photograph(category) for category in DEMO_CATEGORIES}
    for number, (category, photograph) in enumerate(photographs.items()):
        files = dict(_draw_category(category, photograph, Draws(number)))
        marker = f"train/good/{category}_{TRAIN_CELLS[0]}_00.png"
        # no list of files: this data is pinned, and its pin stands in data.dvc
        known = {name: len(content) for name, content in files.items()}
        with atomic_folder(Path(out_dir) / category, marker=marker, known=known) as folder:
            for name, content in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
        places = Counter(name.rsplit("/", 1)[0] for name in files)
        num_defective = sum(places[f"test/{kind}"] for kind in RENDERERS)
        good = {"train_good": places["train/good"], "test_good": places["test/good"]}
        counts[category] = good | {"test_defective": num_defective}
    return counts


def _draw_category(category: str, photograph: np.ndarray, draws: Draws) -> Iterator[tuple[str, bytes]]:
    """Every file of a category: its path and its content."""
    num_train = len(TRAIN_CELLS) * WINDOWS_PER_CELL
    for number, (cell, surface) in enumerate(_surfaces(photograph, draws, TRAIN_CELLS, num_train)):
        yield f"train/good/{category}_{cell}_{number // len(TRAIN_CELLS):02d}.png", encode_png(surface)
    for number, (cell, surface) in enumerate(_surfaces(photograph, draws, TEST_CELLS, NUM_TEST_GOOD)):
        yield f"test/good/{category}_{cell}_{number:02d}.png", encode_png(surface)
    for kind in RENDERERS:
        for number, (cell, surface) in enumerate(_surfaces(photograph, draws, TEST_CELLS, NUM_PER_DEFECT)):
            image, mask = draw_defect(surface, kind, hardness=number / (NUM_PER_DEFECT - 1), draws=draws)
            stem = f"{kind}/{category}_{cell}_{number:02d}"
            yield f"test/{stem}.png", encode_png(image)
            yield f"ground_truth/{stem}_mask.png", encode_png(mask)
    source = {"category": category, "layout": "demo", "licence": LICENCE, "source": SOURCE}
    yield "import.json", as_json(source).encode()  # as `ndpnet import` says it: models carry the licence on


def _surfaces(
    photograph: np.ndarray, draws: Draws, cells: Sequence[str], number: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Different windows at random offsets in their cells, the cells in turn. -> cell, uint8 (WINDOW, WINDOW)."""
    windows: list[tuple[str, int, int]] = []
    while len(windows) < number:  # all are drawn before the first defect is
        cell = cells[len(windows) % len(cells)]
        row, column = (int(digits) - 1 for digits in cell[1:].split("c"))
        offset_y, offset_x = (draws.integer(0, CELL - WINDOW + 1) for _ in "yx")
        window = (cell, row * CELL + offset_y, column * CELL + offset_x)
        if window not in windows:
            windows.append(window)
    for cell, top, left in windows:
        yield cell, photograph[top : top + WINDOW, left : left + WINDOW]


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
