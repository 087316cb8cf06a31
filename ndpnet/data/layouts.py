"""The pictures of a category under data/: the MVTec AD layout, read as an import reads it, and nothing passed over."""

from pathlib import Path

from ndpnet.data.importing.sources.mvtec import read_category
from ndpnet.data.importing.sources.plan import Reader, SourceImage
from ndpnet.data.listing import say_others
from ndpnet.data.manifest import GOOD


def scan_mvtec(category_dir: Path) -> list[SourceImage]:
    """List train/good, test/<type> and their ground_truth/<type> masks by path; ValueError names what is wrong.

    Without test there is nothing to evaluate, without ground_truth no pixel metrics: both are allowed.
    """
    category_dir = Path(category_dir)
    if not category_dir.is_dir():
        raise ValueError(f"no folder {category_dir} (run `dvc pull`, or check the data folder and the category's name)")
    if not (category_dir / "train/good").is_dir():
        raise ValueError(f"no folder {category_dir / 'train/good'} (put the defect-free training images there)")
    reader = Reader(category_dir, is_strict=True)
    images = read_category(reader, "", category_dir.name).images
    say_others(category_dir / path for path in reader.ignored)
    if not any(image.split == "train" for image in images):
        raise ValueError(f"no images under {category_dir / 'train/good'} (run `dvc pull` or add defect-free ones)")
    for image in images:
        if image.mask_path and image.defect_type == GOOD:
            raise ValueError(f"mask {category_dir / image.mask_path} of a good image (remove ground_truth/good)")
    return sorted(images, key=lambda image: image.path)
