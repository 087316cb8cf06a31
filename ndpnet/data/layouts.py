"""Where the pictures of a category lie on disk: the MVTec AD layout."""

from dataclasses import dataclass
from pathlib import Path

from ndpnet.data.listing import IMAGE_SUFFIXES, Kind, kind_of, say_others
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import type_of

# no lossy formats: their noise around a mask's edge is not zero
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class FoundImage:
    """One picture on disk; paths are posix, relative to the category's folder."""

    path: str
    is_test: bool
    defect_type: str
    mask_path: str | None


def scan_mvtec(category_dir: Path) -> list[FoundImage]:
    """List train/good, test/<type> and their ground_truth/<type> masks by path; ValueError names what is wrong.

    Without test there is nothing to evaluate, without ground_truth no pixel metrics: both are allowed.
    """
    category_dir = Path(category_dir)
    _check_training_folder(category_dir)
    train = [FoundImage(path, False, GOOD, None) for path in _list_files(category_dir, "train/good", IMAGE_SUFFIXES)]
    if not train:
        raise ValueError(f"no images under {category_dir / 'train/good'} (run `dvc pull` or add defect-free ones)")
    masks = _find_masks(category_dir)
    test = []
    for folder in _list_folders(category_dir, "test"):
        defect_type = type_of(folder)
        for path in _list_files(category_dir, f"test/{folder}", IMAGE_SUFFIXES):
            test.append(FoundImage(path, True, defect_type, masks.pop((defect_type, Path(path).stem), None)))
    _check_masks(category_dir, test, masks)
    return sorted(train + test, key=lambda image: image.path)


def _check_training_folder(category_dir: Path) -> None:
    if not category_dir.is_dir():
        raise ValueError(f"no folder {category_dir} (run `dvc pull`, or check the data folder and the category's name)")
    if not (category_dir / "train/good").is_dir():
        raise ValueError(f"no folder {category_dir / 'train/good'} (put the defect-free training images there)")
    for defect_type in _list_folders(category_dir, "train"):
        if defect_type != GOOD and _list_files(category_dir, f"train/{defect_type}", IMAGE_SUFFIXES):
            misplaced = category_dir / "train" / defect_type
            raise ValueError(f"images under {misplaced}, but only train/good is trained on (move them under test)")


def _find_masks(category_dir: Path) -> dict[tuple[str, str], str]:
    """Return the masks' paths by (defect type, stem of the picture)."""
    masks: dict[tuple[str, str], str] = {}
    for defect_type in _list_folders(category_dir, "ground_truth"):
        for path in _list_files(category_dir, f"ground_truth/{defect_type}", MASK_SUFFIXES):
            if defect_type == GOOD:
                raise ValueError(f"mask {category_dir / path} of a good image (remove ground_truth/good)")
            key = (defect_type, Path(path).stem.removesuffix("_mask"))
            if key in masks:
                raise ValueError(f"two masks for one image: {category_dir / masks[key]} and {path} (remove one)")
            masks[key] = path
    return masks


def _check_masks(category_dir: Path, test: list[FoundImage], unused: dict[tuple[str, str], str]) -> None:
    if unused:
        orphan = min(unused.values())
        raise ValueError(f"mask {category_dir / orphan} has no image under test (remove the mask or add the image)")
    has_masks = any(image.mask_path for image in test)
    for image in test:
        if has_masks and image.defect_type != GOOD and image.mask_path is None:
            stem = Path(image.path).stem
            mask_path = f"ground_truth/{image.defect_type}/{stem}_mask.png"
            raise ValueError(f"image {category_dir / image.path} has no mask, but others have (add {mask_path})")


def _list_folders(category_dir: Path, folder: str) -> list[str]:
    parent = category_dir / folder
    if not parent.is_dir():
        return []
    return sorted(child.name for child in parent.iterdir() if child.is_dir() and not child.name.startswith("."))


def _list_files(category_dir: Path, folder: str, suffixes: tuple[str, ...]) -> list[str]:
    """Return the files with these suffixes by name; others are named in the log. ValueError: one cannot be read."""
    names, others = list[str](), list[str]()
    for child in sorted((category_dir / folder).iterdir()):
        kind = kind_of(child)
        if kind in (Kind.FOLDER, Kind.LINK):
            raise ValueError(f"folder {child} lies among the images (move its images up, or remove it)")
        is_wanted = kind is Kind.PICTURE and child.suffix.lower() in suffixes
        (names if is_wanted else others).append(child.name)
    say_others(category_dir / folder / name for name in others)
    return [f"{folder}/{name}" for name in sorted(names)]
