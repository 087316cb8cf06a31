"""KolektorSDD (kosNN/PartM.jpg with PartM_label.bmp) and KolektorSDD2 (train and test, NNNNN.png with NNNNN_GT.png).

Every picture has a label; one that is empty means that the surface is good.
"""

import re
from pathlib import Path, PurePosixPath

from ndpnet.data.importing.sources.plan import (
    CategoryPlan,
    Reader,
    SourceImage,
    check_masks,
    find_plans,
    join,
)

DEFECT = "defect"
ITEM = re.compile(r"kos\d+", re.IGNORECASE)
LABEL_ENDINGS = ("_label", "_GT")


def find_kolektor(root: Path, name: str) -> list[CategoryPlan]:
    """Return the data sets of either kind, up to two levels down."""
    plans = find_plans(root, name, {_has_items: _read_items, _has_halves: _read_halves})
    if not plans:
        raise ValueError(f"no Kolektor data in {root}: neither kosNN folders nor train with NNNNN_GT.png")
    return plans


def _has_items(reader: Reader, path: str) -> bool:
    return any(ITEM.fullmatch(name) for name in reader.folders(path))


def _has_halves(reader: Reader, path: str) -> bool:
    train = reader.child(path, "train")
    return train is not None and any("_GT." in picture for picture in reader.pictures(train, is_deep=True))


def _read_items(reader: Reader, path: str, name: str) -> CategoryPlan:
    """KolektorSDD: the item is part of a picture's name, by which it is the group."""
    items = [folder for folder in reader.folders(path) if ITEM.fullmatch(folder)]
    images = [image for item in items for image in _read_folder(reader, join(path, item), f"{item}_", "")]
    return CategoryPlan(name, reader.root / path, images, reader.ignored, r"^(kos\d+)")


def _read_halves(reader: Reader, path: str, name: str) -> CategoryPlan:
    """KolektorSDD2."""
    halves = [folder for folder in reader.folders(path) if folder.casefold() in ("train", "test")]
    images = [image for half in halves for image in _read_folder(reader, join(path, half), "", half.casefold())]
    return CategoryPlan(name, reader.root / path, images, reader.ignored)


def _read_folder(reader: Reader, folder: str, prefix: str, split: str) -> list[SourceImage]:
    labels, pictures = {}, []
    for path in reader.pictures(folder):
        stem = PurePosixPath(path).stem
        ending = next((ending for ending in LABEL_ENDINGS if stem.endswith(ending)), None)
        if ending:
            labels[stem.removesuffix(ending)] = path
        else:
            pictures.append(path)
    images = []
    for path in pictures:
        label = labels.pop(PurePosixPath(path).stem, None)
        if label is None:
            raise ValueError(f"picture {reader.root / path} has no label, so nobody knows whether it is good (add it)")
        images.append(SourceImage(path, prefix + PurePosixPath(path).name, DEFECT, split, label, is_label=True))
    check_masks(reader, [], labels)
    return images
