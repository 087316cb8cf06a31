"""Data sets whose labels tell what is good: DAGM 2007 and KolektorSDD, each in both shapes it is passed around in.

DAGM: ClassN/Train and ClassN/Test, each with Label/ (masks, and Labels.txt that says which pictures are defective); or
the competition's own, ClassN with good pictures and ClassN_def with defective ones and their ellipses.
KolektorSDD: kosNN/PartM.jpg with PartM_label.bmp; KolektorSDD2: train and test, NNNNN.png with NNNNN_GT.png. Every
picture has a label; one that is empty means that the surface is good.
"""

import math
import re
from pathlib import Path, PurePosixPath

from ndpnet.data.importing.sources.plan import (
    CategoryPlan,
    Ellipse,
    Reader,
    SourceImage,
    check_masks,
    find_plans,
    join,
)
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import name_key

DEFECT = "defect"
ITEM = re.compile(r"kos\d+", re.IGNORECASE)
LABEL_ENDINGS = ("_label", "_GT")
LABELS = "labels.txt"


def find_dagm(root: Path, name: str) -> list[CategoryPlan]:
    """Return the classes of either shape, up to two levels down."""
    none = f"no DAGM class in {root}: neither ClassN/Train with Label/ nor ClassN beside ClassN_def"
    none += " (choose their parent folder)"
    return find_plans(root, name, {_has_dagm_halves: _read_dagm_halves, _has_sibling: _read_pair}, none)


def find_kolektor(root: Path, name: str) -> list[CategoryPlan]:
    """Return the data sets of either kind, up to two levels down."""
    none = f"no Kolektor data in {root}: neither kosNN folders nor train with NNNNN_GT.png"
    return find_plans(root, name, {_has_items: _read_items, _has_kolektor_halves: _read_kolektor_halves}, none)


def _halves(reader: Reader, path: str) -> dict[str, str]:
    """The folders of the publisher's split."""
    folders = {split: reader.child(path, split) for split in ("test", "train")}
    return {split: folder for split, folder in folders.items() if folder is not None}


# ---- DAGM


def _has_dagm_halves(reader: Reader, path: str) -> bool:
    return any(reader.child(half, "label") for half in _halves(reader, path).values())


def _has_sibling(reader: Reader, path: str) -> bool:
    folder = PurePosixPath(path)
    parent = "" if str(folder.parent) == "." else str(folder.parent)
    return bool(path) and f"{folder.name}_def" in reader.folders(parent)


def _read_dagm_halves(reader: Reader, path: str, name: str) -> CategoryPlan:
    """Train and Test use the same file names, so each gets its half's name in front."""
    images: list[SourceImage] = []
    for split, half in _halves(reader, path).items():
        label = reader.child(half, "label")
        if label is None:
            raise ValueError(f"no Label/ in {reader.root / half} says what is good (unpack the whole archive)")
        masks = reader.masks(label, ending="_label", skip=(LABELS,))
        # a line "1", then index, flag, picture, 0, mask (or 0)
        rows = [row for row in _label_rows(reader, label) or [] if len(row) >= 3]
        is_defective = {PurePosixPath(row[2]).stem: row[1] == "1" for row in rows}
        for picture in reader.pictures(half, skip=("label",)):
            file = PurePosixPath(picture)
            mask = masks.pop(name_key(file.stem), None)
            if is_defective.get(file.stem, mask is not None) != (mask is not None):
                raise ValueError(f"{LABELS} and the masks of {reader.root / picture} disagree (fetch the data again)")
            images.append(SourceImage(picture, f"{split}_{file.name}", DEFECT if mask else GOOD, split, mask))
        check_masks(reader, [], masks)
    return CategoryPlan(name, reader.root / path, images, reader.ignored)


def _read_pair(reader: Reader, path: str, name: str) -> CategoryPlan:
    """The shape that has no split of its own."""
    good = reader.pictures(path)
    images = [SourceImage(picture, PurePosixPath(picture).name, GOOD) for picture in good]
    ellipses = _read_ellipses(reader, f"{path}_def")
    for picture in reader.pictures(f"{path}_def", skip=(LABELS,)):
        file = PurePosixPath(picture)
        drawn = ellipses.pop(_number(file.stem), ())
        if not drawn:
            raise ValueError(f"{LABELS} has no ellipse for {reader.root / picture} (fetch the data again)")
        images.append(SourceImage(picture, file.name, DEFECT, ellipses=drawn))
    if ellipses:
        listed = reader.root / f"{path}_def" / LABELS
        raise ValueError(f"{listed} lists picture {min(ellipses)}, which is not there (fetch the data again)")
    return CategoryPlan(name, reader.root / path, images, reader.ignored)


def _read_ellipses(reader: Reader, folder: str) -> dict[int, tuple[Ellipse, ...]]:
    """Read labels.txt: index, semi-major and semi-minor axis, rotation angle, x and y of the centre.

    Pixels count from 1 at the upper left and the angle counter-clockwise, as in MATLAB. Its unit is told by the
    values: 150 angles of which none exceeds 2 pi are radians.
    """
    rows = _label_rows(reader, folder)
    if rows is None:
        raise ValueError(f"no {reader.root / folder / LABELS} (unpack the whole archive of the class)")
    numbered = [(_number(row[0]), _ellipse(reader.root / folder, row[1:6])) for row in rows]
    is_degrees = any(abs(ellipse[2]) > 2 * math.pi for _, ellipse in numbered)
    ellipses: dict[int, tuple[Ellipse, ...]] = {}
    for index, (major, minor, angle, x, y) in numbered:
        ellipse = (major, minor, math.radians(angle) if is_degrees else angle, x - 1, y - 1)
        ellipses[index] = (*ellipses.get(index, ()), ellipse)
    return ellipses


def _ellipse(folder: Path, fields: list[str]) -> Ellipse:
    try:
        major, minor, angle, x, y = (float(field) for field in fields)
        if not (math.isfinite(major + minor + angle + x + y) and min(major, minor) > 0):
            raise ValueError
    except ValueError:
        line = f"no ellipse in {' '.join(fields)!r} (index and five numbers a line)"
        raise ValueError(f"{folder / LABELS}: {line}") from None
    return major, minor, angle, x, y


def _label_rows(reader: Reader, folder: str) -> list[list[str]] | None:
    """The fields of the lines of Labels.txt, None without it."""
    for file in (reader.root / folder / name for name in ("Labels.txt", LABELS)):
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            return [line.split() for line in lines if line.strip()]
    return None


def _number(stem: str) -> int:
    digits = "".join(letter for letter in PurePosixPath(stem).stem if letter in "0123456789")
    return int(digits) if digits else -1


# ---- KolektorSDD


def _has_items(reader: Reader, path: str) -> bool:
    return any(ITEM.fullmatch(name) for name in reader.folders(path))


def _has_kolektor_halves(reader: Reader, path: str) -> bool:
    train = _halves(reader, path).get("train")
    return train is not None and any("_GT." in picture for picture in reader.pictures(train, is_deep=True))


def _read_items(reader: Reader, path: str, name: str) -> CategoryPlan:
    """KolektorSDD: the item is part of a picture's name, by which it is the group."""
    items = [folder for folder in reader.folders(path) if ITEM.fullmatch(folder)]
    images = [image for item in items for image in _read_labelled(reader, join(path, item), f"{item}_", "")]
    return CategoryPlan(name, reader.root / path, images, reader.ignored, r"^(kos\d+)")


def _read_kolektor_halves(reader: Reader, path: str, name: str) -> CategoryPlan:
    """KolektorSDD2."""
    halves = _halves(reader, path)
    images = [image for split, half in halves.items() for image in _read_labelled(reader, half, "", split)]
    return CategoryPlan(name, reader.root / path, images, reader.ignored)


def _read_labelled(reader: Reader, folder: str, prefix: str, split: str) -> list[SourceImage]:
    files = [PurePosixPath(path) for path in reader.pictures(folder)]
    labels = {file.stem.rpartition("_")[0]: str(file) for file in files if file.stem.endswith(LABEL_ENDINGS)}
    images = []
    for file in (file for file in files if not file.stem.endswith(LABEL_ENDINGS)):
        label = labels.pop(file.stem, None)
        if label is None:
            raise ValueError(f"picture {reader.root / file} has no label, so nobody knows whether it is good (add it)")
        images.append(SourceImage(str(file), prefix + file.name, DEFECT, split, label, is_label=True))
    check_masks(reader, [], labels)
    return images
