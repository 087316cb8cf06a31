"""Small made-up data sets in the layouts that publishers use, as folders and as archives."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from samples import write_picture

from ndpnet.data.importing.importer import import_source

SIZE = 64


def picture(number: int, size: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    """Noise that is a function of the number. -> uint8 (H, W)."""
    return np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)


def mask(size: tuple[int, int] = (SIZE, SIZE), *, is_empty: bool = False) -> np.ndarray:
    """A square in the middle, or nothing. -> uint8 (H, W)."""
    pixels = np.zeros(size, dtype=np.uint8)
    pixels[20:40, 20:40] = 0 if is_empty else 255
    return pixels


def touch(folder: Path, *paths: str) -> list[Path]:
    """Write empty files below a folder."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    return [folder / path for path in paths]


def names_in(folder: Path) -> list[str]:
    """Everything directly in a folder, hidden or not, by name."""
    return sorted(path.name for path in folder.iterdir())


def import_report(folder: Path) -> dict[str, Any]:
    """What an import said about itself."""
    return json.loads((folder / "import.json").read_text())


def run_import(layout: str, source: Path | str, out: Path, **options: object) -> dict[str, Any]:
    """Import one category. -> its report."""
    import_source(layout, source, out, **options)
    return import_report(out)


def mvtec(folder: Path, *, num_train: int = 6, first: int = 0) -> Path:
    """Two types of defects with masks, a readme and a licence beside."""
    for number in range(num_train):
        write_picture(folder / f"train/good/{number:03d}.png", picture(first + number))
    for number in range(3):
        write_picture(folder / f"test/good/{number:03d}.png", picture(first + 10_000 + number))
        for shift, kind in enumerate(("cut", "hole")):
            write_picture(folder / f"test/{kind}/{number:03d}.png", picture(first + 20_000 + 10 * shift + number))
            write_picture(folder / f"ground_truth/{kind}/{number:03d}_mask.png", mask())
    (folder / "license.txt").write_text("terms")
    return folder


def btad(folder: Path) -> Path:
    """Good pictures are called ok, masks by the stem of their pictures, bitmaps."""
    for number in range(4):
        write_picture(folder / f"train/ok/{number:04d}.bmp", picture(number))
    for number in range(2):
        write_picture(folder / f"test/ok/{number:04d}.bmp", picture(10 + number))
        write_picture(folder / f"test/ko/{number:04d}.bmp", picture(20 + number))
        write_picture(folder / f"ground_truth/ko/{number:04d}.png", mask())
        write_picture(folder / f"ground_truth/ok/{number:04d}.png", mask(is_empty=True))
    return folder


def dagm_halves(folder: Path) -> Path:
    """ClassN/Train and Test with the same file names, five good and two defective each, and Labels.txt."""
    for half, offset in (("Train", 0), ("Test", 500)):
        rows = ["1"]
        for number in range(1, 8):
            is_defective = number > 5
            label = f"{number:04d}_label.PNG" if is_defective else "0"
            write_picture(folder / half / f"{number:04d}.PNG", picture(offset + number))
            if is_defective:
                write_picture(folder / half / "Label" / label, mask())
            rows.append(f"{number:04d}\t{int(is_defective)}\t{number:04d}.PNG\t0\t{label}")
        (folder / half / "Label/Labels.txt").write_text("\n".join(rows) + "\n")
    return folder


def dagm_pair(parent: Path) -> Path:
    """ClassN and ClassN_def with ellipses, as the competition gave them out."""
    for number in range(1, 21):
        write_picture(parent / f"Class1/{number}.png", picture(number))
    rows = []
    for number in (1, 2, 3):
        write_picture(parent / f"Class1_def/{number}.png", picture(1000 + number))
        rows.append(f"{number}\t20.0\t5.0\t{np.pi / 4:.6f}\t33.0\t31.0")
    (parent / "Class1_def/labels.txt").write_text("\r\n".join(rows) + "\r\n")
    return parent


def kolektor(folder: Path, *, num_items: int = 10) -> Path:
    """kosNN/PartM.jpg with a label each; the last part of an item has a defect."""
    for item in range(1, num_items + 1):
        for part in range(3):
            path = folder / f"kos{item:02d}/Part{part}"
            write_picture(path.with_suffix(".jpg"), picture(10 * item + part, (80, SIZE)))
            write_picture(Path(f"{path}_label.bmp"), mask((80, SIZE), is_empty=part < 2))
    return folder


def kolektor2(folder: Path) -> Path:
    """train and test, with NNNNN_GT.png for every picture."""
    for split, first in (("train", 10000), ("test", 20000)):
        for number in range(first, first + 4):
            write_picture(folder / f"{split}/{number}.png", picture(number))
            write_picture(folder / f"{split}/{number}_GT.png", mask(is_empty=number - first < 3))
    return folder


def pack_tar(path: Path, folder: Path) -> Path:
    """Pack a folder's content; the name's ending chooses the compression."""
    mode = {".xz": "w:xz", ".gz": "w:gz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as tar:
        tar.add(folder, ".")
    return path


def pack_zip(path: Path, folder: Path, *, prefix: str = "") -> Path:
    """Pack a folder's content as a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, f"{prefix}{file.relative_to(folder).as_posix()}")
    return path


def pack(path: Path, folder: Path) -> Path:
    """Pack a folder's content as the name's ending says."""
    return (pack_zip if path.suffix == ".zip" else pack_tar)(path, folder)


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """Write a tar of hand-made members."""
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path
