"""DAGM 2007, in both shapes it is passed around in.

(a) ClassN/Train and ClassN/Test, each with Label/ (masks, and Labels.txt that says which pictures are defective);
(b) the competition's own: ClassN with good pictures and ClassN_def with defective ones and their ellipses.
"""

import math
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
SPLITS = ("train", "test")
LABELS = "labels.txt"


def find_dagm(root: Path, name: str) -> list[CategoryPlan]:
    """Return the classes of either shape, up to two levels down."""
    plans = find_plans(root, name, {_has_halves: _read_halves, _has_sibling: _read_pair})
    if not plans:
        raise ValueError(
            f"no DAGM class in {root}: neither ClassN/Train with Label/ nor ClassN beside ClassN_def (choose their "
            "parent folder)"
        )
    return plans


def _has_halves(reader: Reader, path: str) -> bool:
    halves = [reader.child(path, split) for split in SPLITS]
    return any(half is not None and reader.child(half, "label") for half in halves)


def _has_sibling(reader: Reader, path: str) -> bool:
    folder = PurePosixPath(path)
    parent = "" if str(folder.parent) == "." else str(folder.parent)
    return bool(path) and f"{folder.name}_def" in reader.folders(parent)


def _read_halves(reader: Reader, path: str, name: str) -> CategoryPlan:
    """Read shape (a); Train and Test use the same file names, so each gets its half's name in front."""
    images: list[SourceImage] = []
    for split in SPLITS:
        half = reader.child(path, split)
        if half is None:
            continue
        label = reader.child(half, "label")
        if label is None:
            raise ValueError(f"no Label/ in {reader.root / half} says what is good (unpack the whole archive)")
        masks = reader.masks(label, ending="_label", skip=(LABELS,))
        is_defective = _read_flags(reader, label)
        for picture in reader.pictures(half, skip=("label",)):
            file = PurePosixPath(picture)
            mask = masks.pop(name_key(file.stem), None)
            if file.stem in is_defective and is_defective[file.stem] != (mask is not None):
                raise ValueError(f"{LABELS} and the masks of {reader.root / picture} disagree (fetch the data again)")
            kind = DEFECT if mask else GOOD
            images.append(SourceImage(picture, f"{split}_{file.name}", kind, split, mask))
        check_masks(reader, [], masks)
    return CategoryPlan(name, reader.root / path, images, reader.ignored)


def _read_flags(reader: Reader, label: str) -> dict[str, bool]:
    """Read Labels.txt: a line "1", then index, flag, picture, 0, mask (or 0). -> is defective, by stem."""
    file = _labels_of(reader, label)
    rows = _rows(reader, file) if file else []
    return {PurePosixPath(row[2]).stem: row[1] == "1" for row in rows if len(row) >= 3}


def _read_pair(reader: Reader, path: str, name: str) -> CategoryPlan:
    """Read shape (b), which has no split of its own."""
    good = reader.pictures(path)
    images = [SourceImage(picture, PurePosixPath(picture).name, GOOD) for picture in good]
    ellipses = _read_ellipses(reader, f"{path}_def")
    for picture in reader.pictures(f"{path}_def", skip=(LABELS,)):
        file = PurePosixPath(picture)
        drawn = ellipses.pop(_number(file.stem), ())
        if not drawn:
            raise ValueError(f"{LABELS} has no ellipse for {reader.root / picture} (fetch the data again)")
        images.append(SourceImage(picture, file.name, DEFECT, "", None, drawn))
    if ellipses:
        listed = reader.root / f"{path}_def" / LABELS
        raise ValueError(f"{listed} lists picture {min(ellipses)}, which is not there (fetch the data again)")
    return CategoryPlan(name, reader.root / path, images, reader.ignored)


def _read_ellipses(reader: Reader, folder: str) -> dict[int, tuple[Ellipse, ...]]:
    """Read labels.txt: index, semi-major and semi-minor axis, rotation angle, x and y of the centre.

    Pixels count from 1 at the upper left and the angle counter-clockwise, as in MATLAB. Its unit is told by the
    values: 150 angles of which none exceeds 2 pi are radians.
    """
    file = _labels_of(reader, folder)
    if file is None:
        raise ValueError(f"no {reader.root / folder / LABELS} (unpack the whole archive of the class)")
    rows = [(_number(row[0]), _numbers(reader, file, row[1:6])) for row in _rows(reader, file)]
    is_degrees = any(abs(numbers[2]) > 2 * math.pi for _, numbers in rows)
    ellipses: dict[int, tuple[Ellipse, ...]] = {}
    for index, (major, minor, angle, x, y) in rows:
        ellipse = (major, minor, math.radians(angle) if is_degrees else angle, x - 1, y - 1)
        ellipses[index] = (*ellipses.get(index, ()), ellipse)
    return ellipses


def _labels_of(reader: Reader, folder: str) -> str | None:
    names = (join(folder, name) for name in ("Labels.txt", LABELS))
    return next((name for name in names if (reader.root / name).is_file()), None)


def _numbers(reader: Reader, file: str, fields: list[str]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(field) for field in fields)
    except ValueError:
        numbers = ()
    if len(numbers) != 5 or not all(math.isfinite(number) for number in numbers) or min(numbers[:2]) <= 0:
        raise ValueError(f"{reader.root / file}: no ellipse in {' '.join(fields)!r} (index and five numbers a line)")
    return numbers


def _number(stem: str) -> int:
    digits = "".join(letter for letter in PurePosixPath(stem).stem if letter in "0123456789")
    return int(digits) if digits else -1


def _rows(reader: Reader, file: str) -> list[list[str]]:
    text = (reader.root / file).read_text(encoding="utf-8", errors="replace")
    return [line.split() for line in text.splitlines() if line.strip()]
