"""The MVTec AD layout and its relatives: BTAD calls good pictures ok, converted VisA has one type, bad."""

import logging
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ndpnet.data.importing.sources.plan import Found, Masks, Paths, SourceImage, by_category, by_part, unknown_in
from ndpnet.data.listing import list_pictures
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import GOOD_NAMES, plain, type_of
from ndpnet.files import some_names

PARTS = {"train": "train", "test": "test", "groundtruth": "masks"}

logger = logging.getLogger(__name__)


def find_mvtec(root: Path, paths: Paths) -> Found:
    """The categories: folders with train/good (or train/ok)."""
    for folder, inside in by_category(paths, _is_train).items():
        parts = by_part(inside, folder, PARTS)
        for path in (path for found in parts.values() for path in found):
            if len(path.parts) != len(folder.parts) + 3:
                where = "neither in train/good nor in a folder of test or ground_truth"
                raise ValueError(f"picture {root / path} lies {where} (move it there)")
        # those of good pictures, too: they must turn out empty
        masks = Masks(root, ((f"{type_of(path.parent.name)}/{path.name}", path) for path in parts["masks"]))
        images = []
        for path in parts["train"]:
            if type_of(path.parent.name) != GOOD:
                fix = "only good ones are trained on (move them under test)"
                raise ValueError(f"pictures under {root / path.parent}, but {fix}")
            images.append(SourceImage(str(path), path.name, GOOD, "train"))
        for path in parts["test"]:
            defect_type = type_of(path.parent.name)
            mask = masks.take(f"{defect_type}/{path.name}")
            images.append(SourceImage(str(path), path.name, defect_type, "test", mask))
        masks.check(images)
        yield folder, images


def _is_train(parts: tuple[str, ...]) -> bool:
    return len(parts) > 2 and plain(parts[0]) == "train" and plain(parts[1]) in GOOD_NAMES


def scan_mvtec(category_dir: Path) -> list[SourceImage]:
    """All pictures of a category under data/ with their masks, by path. ValueError names what is wrong.

    Without test there is nothing to evaluate, without ground_truth no pixel metrics: both are allowed.
    """
    category_dir = Path(category_dir)
    if not (category_dir / "train/good").is_dir():
        raise ValueError(f"no folder {category_dir / 'train/good'} (put defect-free images there, or run `dvc pull`)")
    listing = list_pictures(category_dir)
    others = [path for path in listing.others if path.parent != category_dir]
    paths = [PurePosixPath(path.relative_to(category_dir)) for path in replace(listing, others=others).checked()]
    images = dict(find_mvtec(category_dir, paths)).get(PurePosixPath())
    if images is None:
        raise ValueError(f"no images under {category_dir / 'train/good'} (run `dvc pull` or add defect-free ones)")
    if unknown := unknown_in(category_dir, PurePosixPath(), images, paths):
        logger.warning("left out of %s: %s (known are train, test and ground_truth)", category_dir, some_names(unknown))
    for image in images:
        if image.mask_path and image.defect_type == GOOD:
            raise ValueError(f"mask {category_dir / image.mask_path} of a good image (remove ground_truth/good)")
    return sorted(images, key=lambda image: image.path)
