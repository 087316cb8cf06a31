"""KolektorSDD (kosNN/PartM.jpg with PartM_label.bmp) and KolektorSDD2 (train and test, NNNNN.png with NNNNN_GT.png).

Every picture has a label; one that is empty means that the surface is good.
"""

import re
from pathlib import Path, PurePosixPath

from ndpnet.data.importing.sources.plan import (
    CategoryPlan,
    Reader,
    SourceImage,
    category_name,
    check_masks,
    join,
    search_folders,
)

DEFECT = "defect"
ITEM = re.compile(r"kos\d+", re.IGNORECASE)
LABEL_ENDINGS = ("_label", "_GT")


def find_kolektor(root: Path, name: str) -> list[CategoryPlan]:
    """Return the data sets of either kind, up to two levels down."""
    folders = Reader(root)
    items = search_folders(folders, _has_items, depth=2)
    halves = search_folders(folders, _has_halves, depth=2)
    if not items and not halves:
        raise ValueError(f"no Kolektor data in {root}: neither kosNN folders nor train with NNNNN_GT.png")
    plans = [_read(Reader(root), path, category_name(path, name), is_first=True) for path in items]
    return plans + [_read(Reader(root), path, category_name(path, name), is_first=False) for path in halves]


def _has_items(reader: Reader, path: str) -> bool:
    return any(ITEM.fullmatch(name) for name in reader.folders(path))


def _has_halves(reader: Reader, path: str) -> bool:
    train = reader.child(path, "train")
    return train is not None and any("_GT." in picture for picture in reader.pictures(train, is_deep=True))


def _read(reader: Reader, path: str, name: str, *, is_first: bool) -> CategoryPlan:
    images: list[SourceImage] = []
    for folder in reader.folders(path):
        is_item, split = bool(ITEM.fullmatch(folder)), folder.casefold()
        if is_item if is_first else split in ("train", "test"):
            prefix = f"{folder}_" if is_first else ""  # the item is part of the name: it is the group
            images += _read_folder(reader, join(path, folder), prefix, "" if is_first else split)
    pattern = r"^(kos\d+)" if is_first else ""
    return CategoryPlan(name, reader.root / path, images, reader.ignored, pattern)


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
