"""The MVTec AD layout and its relatives: BTAD calls good pictures ok, converted VisA has one type, bad."""

import logging
from pathlib import Path, PurePosixPath

from ndpnet.data.importing.sources.plan import (
    CategoryPlan,
    Reader,
    SourceImage,
    check_masks,
    find_plans,
    join,
    unknown_beside,
)
from ndpnet.data.listing import say_others
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import GOOD_NAMES, name_key, type_of
from ndpnet.files import some_names

logger = logging.getLogger(__name__)


def find_mvtec(root: Path, name: str) -> list[CategoryPlan]:
    """Return the categories: folders with train/good (or train/ok), up to three levels down."""
    none = f"no category in MVTec's layout in {root}: no train/good up to three levels down"
    return find_plans(root, name, {_is_category: read_category}, none, depth=3)


def scan_mvtec(category_dir: Path) -> list[SourceImage]:
    """All pictures of a category under data/ with their masks, by path. ValueError names what is wrong.

    Without test there is nothing to evaluate, without ground_truth no pixel metrics: both are allowed.
    """
    category_dir = Path(category_dir)
    if not (category_dir / "train/good").is_dir():
        raise ValueError(f"no folder {category_dir / 'train/good'} (put defect-free images there, or run `dvc pull`)")
    reader = Reader(category_dir, is_strict=True)
    images = read_category(reader, "", category_dir.name).images
    say_others(category_dir / path for path in reader.ignored)
    if unknown := unknown_beside(images, category_dir, category_dir):
        logger.warning("left out of %s: %s (known are train, test and ground_truth)", category_dir, some_names(unknown))
    if not any(image.split == "train" for image in images):
        raise ValueError(f"no images under {category_dir / 'train/good'} (run `dvc pull` or add defect-free ones)")
    for image in images:
        if image.mask_path and image.defect_type == GOOD:
            raise ValueError(f"mask {category_dir / image.mask_path} of a good image (remove ground_truth/good)")
    return sorted(images, key=lambda image: image.path)


def _is_category(reader: Reader, path: str) -> bool:
    train = reader.child(path, "train")
    return train is not None and reader.child(train, *GOOD_NAMES) is not None


def read_category(reader: Reader, path: str, name: str) -> CategoryPlan:
    """The pictures of one category. ValueError names what contradicts itself."""
    masks = _find_masks(reader, path)
    images = _read_train(reader, path)
    test = reader.child(path, "test")
    for defect_type, folder in _types(reader, test).items():
        for picture in reader.pictures(folder):
            mask = masks.get(defect_type, {}).pop(name_key(PurePosixPath(picture).stem), None)
            images.append(SourceImage(picture, PurePosixPath(picture).name, defect_type, "test", mask))
    check_masks(reader, images, {f"{kind}/{stem}": mask for kind, of in masks.items() for stem, mask in of.items()})
    return CategoryPlan(name, reader.root / path, images, reader.ignored)


def _read_train(reader: Reader, path: str) -> list[SourceImage]:
    train = reader.child(path, "train")
    assert train is not None
    images = []
    for defect_type, folder in _types(reader, train).items():
        if defect_type == GOOD:
            pictures = reader.pictures(folder)
            images += [SourceImage(picture, PurePosixPath(picture).name, GOOD, "train") for picture in pictures]
        elif reader.has_pictures(folder):
            misplaced = reader.root / folder
            raise ValueError(f"pictures under {misplaced}, but only good ones are trained on (move them under test)")
    return images


def _find_masks(reader: Reader, path: str) -> dict[str, dict[str, str]]:
    """Return the masks by type of defect and stem; those of good pictures, too: they must turn out empty."""
    truth = reader.child(path, "ground_truth")
    return {kind: reader.masks(folder) for kind, folder in _types(reader, truth).items()}


def _types(reader: Reader, path: str | None) -> dict[str, str]:
    """Return the folders below test or ground_truth by type of defect."""
    if path is None:
        return {}
    reader.child(path, *GOOD_NAMES)  # refuses good beside ok
    return {type_of(name): join(path, name) for name in reader.folders(path)}
