"""Data sets whose labels tell what is good: DAGM 2007 and KolektorSDD, each in both shapes it is passed around in.

DAGM: ClassN/Train and ClassN/Test, each with Label/ (masks, and Labels.txt that says which pictures are defective); or
the competition's own, ClassN with good pictures and ClassN_def with defective ones and their ellipses.
KolektorSDD: kosNN/PartM.jpg with PartM_label.bmp; KolektorSDD2: train and test, NNNNN.png with NNNNN_GT.png. Every
picture has a label; one that is empty means that the surface is good.
"""

import math
import re
from pathlib import Path, PurePosixPath

from ndpnet.data.importing.sources.plan import Ellipse, Found, Masks, Paths, SourceImage, by_category, by_part
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import plain

DEFECT = "defect"
HALVES = {"train": "train", "test": "test"}
ITEM = re.compile(r"kos\d+", re.IGNORECASE)
LABEL_ENDINGS = ("_label", "_GT")
LABELS = "labels.txt"


# ---- DAGM


def find_dagm(root: Path, paths: Paths) -> Found:
    """The classes of either shape."""
    for folder, inside in by_category(paths, _is_dagm_label).items():
        halves = by_part(inside, folder, HALVES)
        yield folder, [image for half in halves.values() for image in _read_half(root, half, len(folder.parts))]
    pictures: dict[PurePosixPath, Paths] = {}
    for path in paths:
        pictures.setdefault(path.parent, []).append(path)
    for folder, good in pictures.items():
        if defective := pictures.get(folder.parent / f"{folder.name}_def"):
            yield folder, _read_pair(root, good, defective)


def _is_dagm_label(parts: tuple[str, ...]) -> bool:
    return len(parts) > 2 and plain(parts[0]) in HALVES and plain(parts[1]) == "label"


def _read_half(root: Path, paths: Paths, depth: int) -> list[SourceImage]:
    """Train and Test use the same file names, so each gets its half's name in front."""
    half = paths[0].parents[-depth - 2]
    drawn = [path for path in paths if plain(path.parent.name) == "label"]
    rows = _label_rows(root / (drawn[0].parent if drawn else half / "Label"))
    if rows is None and not drawn:
        raise ValueError(f"no Label/ in {root / half} says what is good (unpack the whole archive)")
    # a line "1", then index, flag, picture, 0, mask (or 0)
    is_defective = {PurePosixPath(row[2]).stem: row[1] == "1" for row in rows or [] if len(row) >= 3}
    masks, split, images = Masks(root, ((path.name, path) for path in drawn), endings="_label"), plain(half.name), []
    for path in (path for path in paths if path.parent == half):
        mask = masks.take(path.name)
        if is_defective.get(path.stem, mask is not None) != (mask is not None):
            raise ValueError(f"{LABELS} and the masks of {root / path} disagree (fetch the data again)")
        images.append(SourceImage(str(path), f"{split}_{path.name}", DEFECT if mask else GOOD, split, mask))
    masks.check()
    return images


def _read_pair(root: Path, good: Paths, defective: Paths) -> list[SourceImage]:
    """The shape that has no split of its own."""
    images = [SourceImage(str(path), path.name, GOOD) for path in good]
    folder = root / defective[0].parent
    ellipses = _read_ellipses(folder)
    for path in defective:
        drawn = ellipses.pop(_number(path.stem), ())
        if not drawn:
            raise ValueError(f"{LABELS} has no ellipse for {root / path} (fetch the data again)")
        images.append(SourceImage(str(path), path.name, DEFECT, ellipses=drawn))
    if ellipses:
        listed = f"{folder / LABELS} lists picture {min(ellipses)}"
        raise ValueError(f"{listed}, which is not there (fetch the data again)")
    return images


def _read_ellipses(folder: Path) -> dict[int, tuple[Ellipse, ...]]:
    """Read labels.txt: index, semi-major and semi-minor axis, rotation angle, x and y of the centre.

    Pixels count from 1 at the upper left and the angle counter-clockwise, as in MATLAB. Its unit is told by the
    values: 150 angles of which none exceeds 2 pi are radians.
    """
    rows = _label_rows(folder)
    if rows is None:
        raise ValueError(f"no {folder / LABELS} (unpack the whole archive of the class)")
    numbered = [(_number(row[0]), _ellipse(folder, row[1:6])) for row in rows]
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


def _label_rows(folder: Path) -> list[list[str]] | None:
    """The fields of the lines of Labels.txt, None without it."""
    for file in (folder / name for name in ("Labels.txt", LABELS)):
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            return [line.split() for line in lines if line.strip()]
    return None


def _number(stem: str) -> int:
    digits = re.sub(r"[^0-9]", "", PurePosixPath(stem).stem)
    return int(digits) if digits else -1


# ---- KolektorSDD


def find_kolektor(root: Path, paths: Paths) -> Found:
    """The data sets of either kind; of the first the item is part of a picture's name, by which it is the group."""
    for folder, inside in by_category(paths, _is_kolektor).items():
        halves: dict[str, Paths] = {}
        for path in inside:
            if path.parent.parent == folder:
                halves.setdefault(path.parent.name, []).append(path)
        items = {name: files for name, files in halves.items() if ITEM.fullmatch(name) or plain(name) in HALVES}
        yield folder, [image for name, files in items.items() for image in _read_labelled(root, files, name)]


def _is_kolektor(parts: tuple[str, ...]) -> bool:
    return ITEM.fullmatch(parts[0]) is not None or (plain(parts[0]) == "train" and "_GT." in parts[-1])


def _read_labelled(root: Path, files: Paths, folder: str) -> list[SourceImage]:
    split = HALVES.get(plain(folder), "")
    drawn = ((file.name, file) for file in files if file.stem.endswith(LABEL_ENDINGS))
    labels, images = Masks(root, drawn, endings="_label _gt"), []
    for file in (file for file in files if not file.stem.endswith(LABEL_ENDINGS)):
        if (label := labels.take(file.name)) is None:
            raise ValueError(f"picture {root / file} has no label, so nobody knows whether it is good (add it)")
        name = file.name if split else f"{folder}_{file.name}"
        images.append(SourceImage(str(file), name, DEFECT, split, label, is_label=True))
    labels.check()
    return images
