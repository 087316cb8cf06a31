"""The defect bank: masks and natural-image sources, made once, drawn from in every training step."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ndpnet.config import SynthesisConfig
from ndpnet.data.images import read_image
from ndpnet.data.listing import list_pictures
from ndpnet.files import read_record, write_json
from ndpnet.folders import atomic_folder
from ndpnet.synthesis.augmentation import augmented
from ndpnet.synthesis.cracks import crack_masks
from ndpnet.synthesis.perlin import blob_masks, line_masks

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
COUNTS = "bank.json"
BANK_FILES = (COUNTS, "masks.npy", "sources.npy")
CHUNK = 64
MIN_MASK_PIXELS = 8
# the colour photographs that scikit-image and scikit-learn carry in their wheels
SKIMAGE_PHOTOS = (
    *("astronaut.png", "chelsea.png", "coffee.png", "color.png", "hubble_deep_field.jpg", "ihc.png"),
    *("motorcycle_left.png", "retina.jpg", "rocket.jpg"),
)
SKLEARN_PHOTOS = ("china.jpg", "flower.jpg")


class DefectBank:
    """Packed masks and source pictures of one patch size, read from a folder that `make_bank` wrote.

    The last `num_cracks` masks are cracks.
    """

    def __init__(self, masks: np.ndarray, sources: np.ndarray, *, num_cracks: int = 0) -> None:
        self.masks = masks  # uint8 (M, P, P/8), eight pixels a byte, first pixel in the highest bit
        self.sources = sources  # uint8 (S, P, P, 3)
        self.first_crack = len(masks) - num_cracks

    @property
    def patch_size(self) -> int:
        """Side of masks and sources in pixels."""
        return self.masks.shape[1]

    @classmethod
    def load(cls, bank_dir: Path) -> "DefectBank":
        """Open a bank without reading it whole. ValueError if the folder holds none."""
        bank_dir = Path(bank_dir)
        if not (bank_dir / COUNTS).is_file():
            raise ValueError(f"no defect bank in {bank_dir} (run `ndpnet synthesize`)")
        counts = read_record(bank_dir / COUNTS, FORMAT_VERSION, "run `ndpnet synthesize` again")
        try:
            masks, sources = (np.load(bank_dir / f"{name}.npy", mmap_mode="r") for name in ("masks", "sources"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"cannot read the masks and sources in {bank_dir} (run `ndpnet synthesize` again)"
            ) from error
        return cls(masks, sources, num_cracks=counts["num_crack_masks"])


def make_bank(out_dir: Path, synthesis: SynthesisConfig, *, seed: int) -> dict[str, int]:
    """Write a bank: `num_masks` masks (shares of lines and of cracks) and `num_sources` natural pictures.

    source_augmentation: `none` for crops as they are, `draem` for whole pictures, each changed as in DRAEM.
    """
    photos, num_masks = list_sources(synthesis.sources), synthesis.num_masks
    num_lines, num_cracks = (round(num_masks * share) for share in (synthesis.line_share, synthesis.crack_share))
    kinds = [
        (blob_masks, num_masks - num_lines - num_cracks, 0, "spots"),
        (line_masks, num_lines, 1, "lines"),
        (crack_masks, num_cracks, 3, "cracks"),
    ]
    with atomic_folder(out_dir, marker=COUNTS) as folder:
        masks = [
            _packed_masks(make, count, synthesis.patch_size, np.random.default_rng([seed, stream]), title)
            for make, count, stream, title in kinds
        ]
        np.save(folder / "masks.npy", np.concatenate(masks))
        np.save(folder / "sources.npy", _sources(photos, synthesis, seed))
        counts = {"num_masks": num_masks, "num_line_masks": num_lines, "num_crack_masks": num_cracks}
        counts |= {"num_sources": synthesis.num_sources, "num_photos": len(photos)}
        counts |= {"patch_size": synthesis.patch_size, "format_version": FORMAT_VERSION}
        write_json(folder / COUNTS, counts)
    return counts


def list_sources(sources: str) -> list[Path]:
    """Natural pictures under the folder `sources`; of the installed libraries if it is empty. ValueError if none."""
    if not sources:
        import skimage
        import sklearn

        skimage_dir = Path(skimage.__file__).parent / "data"
        sklearn_dir = Path(sklearn.__file__).parent / "datasets" / "images"
        return [skimage_dir / name for name in SKIMAGE_PHOTOS] + [sklearn_dir / name for name in SKLEARN_PHOTOS]
    folder = Path(sources)
    photos = list_pictures(folder).checked() if folder.is_dir() else []
    if not photos:
        raise ValueError(f'no images under synthesis.sources = {folder} (name a folder of natural pictures, or "")')
    return photos


def _packed_masks(
    make: Callable[[np.random.Generator, int, int], torch.Tensor],
    num_masks: int,
    patch_size: int,
    rng: np.random.Generator,
    title: str,
) -> np.ndarray:
    """The first `num_masks` masks that `make` gives with at least a few pixels. -> uint8 (num_masks, P, P/8)."""
    packed = np.empty((num_masks, patch_size, patch_size // 8), dtype=np.uint8)
    filled = 0
    with tqdm(desc=title, total=num_masks, unit="mask", disable=None) as bar:
        while filled < num_masks:
            drawn = make(rng, CHUNK, patch_size)
            masks = drawn[drawn.sum(dim=(1, 2)) >= MIN_MASK_PIXELS].numpy()[: num_masks - filled]
            packed[filled : filled + len(masks)] = np.packbits(masks, axis=-1)
            filled += len(masks)
            bar.update(len(masks))
    return packed


def _sources(photos: list[Path], synthesis: SynthesisConfig, seed: int) -> np.ndarray:
    """Random square crops or changed whole pictures, every photo as often. -> uint8 (num_sources, P, P, 3)."""
    num_sources, patch_size = synthesis.num_sources, synthesis.patch_size
    sources = np.empty((num_sources, patch_size, patch_size, 3), dtype=np.uint8)
    for photo_index, path in enumerate(photos[:num_sources]):
        image = read_image(path)
        whole = Image.fromarray(image).resize((patch_size, patch_size), Image.Resampling.BILINEAR)
        for index in tqdm(range(photo_index, num_sources, len(photos)), path.name, leave=False, disable=None):
            rng = np.random.default_rng([seed, 2, index])
            is_crop = synthesis.source_augmentation == "none"
            sources[index] = _random_crop(image, patch_size, rng) if is_crop else augmented(np.array(whole), rng)
    return sources


def _random_crop(image: np.ndarray, patch_size: int, rng: np.random.Generator) -> np.ndarray:
    """A square of 40 to 100 % of the short side, resized. image: (H, W, 3) -> (P, P, 3)."""
    height, width = image.shape[:2]
    side = int(min(height, width) * rng.uniform(0.4, 1.0))
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    crop = Image.fromarray(image[top : top + side, left : left + side])
    return np.asarray(crop.resize((patch_size, patch_size), Image.Resampling.BILINEAR))
