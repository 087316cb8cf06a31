"""The demo surfaces: three photographs of scikit-image (CC0), cut and damaged into MVTec's layout."""

import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np

from ndpnet.data.demo_defects import RENDERERS, Draws, draw_defect
from ndpnet.files import atomic_folder

DEMO_GROUP_PATTERN = r"_(r\d+c\d+)_"
WINDOW = 128
# block -> (top, left, height, width): disjoint, so no pixel is both trained and tested on. Training has every height
# because the bricks grow towards the viewer; five blocks test, as many as a promotion asks for. By their names' hashes
# r1c2, r1c4, r2c3 and r3c3 train, r3c2 calibrates and r1c3 validates.
TRAIN_BLOCKS = {
    "r1c2": (0, 0, 128, 160),
    "r1c3": (0, 160, 128, 192),
    "r1c4": (0, 352, 128, 160),
    "r2c3": (128, 160, 192, 192),
    "r3c2": (256, 0, 128, 160),
    "r3c3": (320, 160, 192, 192),
}
TEST_BLOCKS = {
    "r2c2": (128, 0, 128, 160),
    "r2c4": (128, 352, 128, 160),
    "r3c4": (256, 352, 128, 160),
    "r4c2": (384, 0, 128, 160),
    "r4c4": (384, 352, 128, 160),
}
WINDOWS_PER_BLOCK = 16
NUM_TEST_GOOD = 24
NUM_PER_DEFECT = 8
PIXELS_SHA256 = {
    "brick": "664a145c5253f0d66db1a12776785f0ea35a44cc7447ffc933f6d6118dc58643",
    "grass": "b18dae4c68bf850a7a7b28a29d1846c76be890665117b57fd125fe29c4d4ede6",
    "gravel": "3d51ad45f789cd8b98534b7af6bce774e499ead45421135afd757358c7230009",
}
DEMO_CATEGORIES = tuple(PIXELS_SHA256)


def make_demo_data(out_dir: Path) -> dict[str, dict[str, int]]:
    """Write the categories in MVTec's layout, the same bytes on every machine; return counts per category.

    Earlier demo categories are replaced, whatever else is in `out_dir` stays.
    """
    photographs = {category: _photograph(category) for category in DEMO_CATEGORIES}
    counts = {}
    for number, (category, photograph) in enumerate(photographs.items()):
        draws = Draws(number)
        with atomic_folder(Path(out_dir) / category, marker=f"train/good/{category}_r1c2_00.png") as category_dir:
            num_train = _write_train(category_dir, category, photograph, draws)
            num_good = _write_test_good(category_dir, category, photograph, draws)
            num_defective = _write_defective(category_dir, category, photograph, draws)
        counts[category] = {"train_good": num_train, "test_good": num_good, "test_defective": num_defective}
    return counts


def choose_train_windows(draws: Draws) -> list[tuple[str, int, int]]:
    """Return (block, top, left) of the training windows: one at random in each cell of a grid of offsets.

    The grid is 4x4, in a block no higher than a window 1x16.
    """
    windows = []
    for block, (top, left, height, width) in TRAIN_BLOCKS.items():
        free_y, free_x = height - WINDOW + 1, width - WINDOW + 1
        rows = 4 if free_y >= 4 else 1
        columns = WINDOWS_PER_BLOCK // rows
        for cell in range(WINDOWS_PER_BLOCK):
            row, column = divmod(cell, columns)
            offset_y = draws.integer(row * free_y // rows, (row + 1) * free_y // rows)
            offset_x = draws.integer(column * free_x // columns, (column + 1) * free_x // columns)
            windows.append((block, top + offset_y, left + offset_x))
    return windows


def choose_test_windows(draws: Draws, num_windows: int) -> list[tuple[str, int, int]]:
    """Return (block, top, left) of different windows of the test area, the blocks in turn."""
    windows: list[tuple[str, int, int]] = []
    blocks = list(TEST_BLOCKS.items())
    while len(windows) < num_windows:
        block, (top, left, height, width) = blocks[len(windows) % len(blocks)]
        window = (block, top + draws.integer(0, height - WINDOW + 1), left + draws.integer(0, width - WINDOW + 1))
        if window not in windows:
            windows.append(window)
    return windows


def encode_png(image: np.ndarray) -> bytes:
    """Encode uint8 (H, W) as 8-bit or bool (H, W) as 1-bit grey PNG, uncompressed: no zlib's choices in the bytes."""
    height, width = image.shape
    rows = np.packbits(image, axis=1) if image.dtype == bool else image
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 1 if image.dtype == bool else 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", _stored(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _stored(content: bytes) -> bytes:
    """Wrap bytes as a zlib stream of stored blocks (RFC 1950, 1951)."""
    blocks = [content[start : start + 0xFFFF] for start in range(0, len(content), 0xFFFF)]
    stream = b"\x78\x01"
    for number, block in enumerate(blocks):
        is_last = number == len(blocks) - 1
        stream += struct.pack("<BHH", is_last, len(block), len(block) ^ 0xFFFF) + block
    return stream + struct.pack(">I", zlib.adler32(content))


def _photograph(category: str) -> np.ndarray:
    """Return the photograph from scikit-image's wheel. -> uint8 (512, 512)."""
    from skimage import data  # heavy, and needed by the demo alone

    photograph = getattr(data, category)()
    if hashlib.sha256(photograph.tobytes()).hexdigest() != PIXELS_SHA256[category]:
        raise ValueError(f"scikit-image's picture {category!r} is another than the demo's (install scikit-image 0.26)")
    return photograph


def _cut(photograph: np.ndarray, top: int, left: int) -> np.ndarray:
    return photograph[top : top + WINDOW, left : left + WINDOW]


def _write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(image))


def _write_train(category_dir: Path, category: str, photograph: np.ndarray, draws: Draws) -> int:
    windows = choose_train_windows(draws)
    for number, (block, top, left) in enumerate(windows):
        name = f"{category}_{block}_{number % WINDOWS_PER_BLOCK:02d}.png"
        _write_png(category_dir / "train" / "good" / name, _cut(photograph, top, left))
    return len(windows)


def _write_test_good(category_dir: Path, category: str, photograph: np.ndarray, draws: Draws) -> int:
    windows = choose_test_windows(draws, NUM_TEST_GOOD)
    for number, (block, top, left) in enumerate(windows):
        name = f"{category}_{block}_{number:02d}.png"
        _write_png(category_dir / "test" / "good" / name, _cut(photograph, top, left))
    return len(windows)


def _write_defective(category_dir: Path, category: str, photograph: np.ndarray, draws: Draws) -> int:
    for kind in RENDERERS:
        for number, (block, top, left) in enumerate(choose_test_windows(draws, NUM_PER_DEFECT)):
            surface = _cut(photograph, top, left)
            image, mask = draw_defect(surface, kind, hardness=number / (NUM_PER_DEFECT - 1), draws=draws)
            stem = f"{category}_{block}_{number:02d}"
            _write_png(category_dir / "test" / kind / f"{stem}.png", image)
            _write_png(category_dir / "ground_truth" / kind / f"{stem}_mask.png", mask)
    return len(RENDERERS) * NUM_PER_DEFECT
