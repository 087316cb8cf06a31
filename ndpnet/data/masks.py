"""Masks of defects, however they were drawn: white, labels, colours of a palette, grey at the edges, noise of JPEG."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from ndpnet.data.images import OpenedImage, open_image
from ndpnet.data.levels import count_levels

HALF = 128
MAX_LABEL = 31  # grey levels up to here are the numbers of the defects' types, or noise
MANY_LEVELS = 16
BLOCK = 8  # pixels: JPEG's, and further than a blurred edge reaches
REPAIR = "(draw it white on black)"


@dataclass(frozen=True)
class Mask:
    """A decoded mask, bool (H, W), and what a person should look at."""

    marked: np.ndarray = field(repr=False)
    note: str | None


def open_mask(source: Path | bytes, *, name: str | None = None) -> Mask:
    """Decode a defect mask: its one level beside 0, its labels or a palette's colours, else what is half white or more.

    ValueError names the mask that can be read in two ways.
    """
    opened = open_image(source, name=name)
    is_coloured = opened.image.mode == "P" and _has_colours(opened)
    samples = opened.rgb() if opened.wide is None else opened.wide
    levels = samples if samples.ndim == 2 else samples.max(axis=2)
    present = np.flatnonzero(count_levels(levels).any(axis=0))
    are_numbers = present.size <= 2 or is_coloured or _are_labels(levels, present)
    if present[0] == 0 and are_numbers and not opened.is_inverted:
        marked, num_greys = levels > 0, 0
    else:
        values = levels if opened.wide is None else opened.rgb(opened.levels.own_depth).max(axis=2)
        marked, num_greys = _from_half(values, opened.name), present.size
    if marked.all() and any(low != high for low, high in np.reshape(opened.image.getextrema(), (-1, 2))):
        raise ValueError(f"mask {opened.name} marks every pixel, and has several colours {REPAIR}")
    return Mask(marked, _note(marked, num_greys))


def check_mask(mask: np.ndarray, name: str, *, is_good: bool, size: tuple[int, int]) -> None:
    """Refuse a mask that contradicts its picture. mask: bool (H, W), size: (height, width) of the picture."""
    if mask.shape != size:
        sizes = f"{mask.shape[1]}x{mask.shape[0]} pixels, its picture {size[1]}x{size[0]}"
        is_turned = mask.shape == size[::-1]
        fix = "turn it: pictures are read upright, as their EXIF says" if is_turned else "draw it at the picture's size"
        raise ValueError(f"{name} has {sizes} ({fix})")
    if is_good and mask.any():
        raise ValueError(f"{name} marks a defect, but its picture is said to be good (move one of them)")
    if not is_good and not mask.any():
        raise ValueError(f"{name} is empty (mark the defect, or call its picture good)")


def _has_colours(opened: OpenedImage) -> bool:
    """Whether a palette's used colours are more than greys; ValueError if its first one, the background, is bright."""
    palette = np.array(opened.image.getpalette("RGB")).reshape(-1, 3)
    used = [index for index, count in enumerate(opened.image.histogram()[: len(palette)]) if count]
    if len(used) > 1 and palette[0].max() >= HALF and 0 in used:
        raise ValueError(
            f"mask {opened.name} has a palette that starts with a bright colour: background or defect? {REPAIR}"
        )
    return bool((palette[used] != palette[used][:, :1]).any())


def _are_labels(levels: np.ndarray, present: np.ndarray) -> bool:
    """Whether levels number types of defects, with one brighter one as a border. levels: (H, W), present: sorted."""
    if present[-1] <= MAX_LABEL:
        return True
    if present.size > MANY_LEVELS or present[-2] > MAX_LABEL:
        return False
    # noise of JPEG has as low levels: beside white, filling no 3 x 3 pixels with one of them, or in place of all black
    is_label = ((levels > 0) & (levels <= MAX_LABEL))[1:-1, 1:-1]
    is_flat = (ndimage.minimum_filter(levels, 3) == ndimage.maximum_filter(levels, 3))[1:-1, 1:-1]
    return bool((is_label & is_flat).any() and 2 * is_label.sum() < is_label.size)


def _from_half(levels: np.ndarray, name: str) -> np.ndarray:
    """Threshold at half the range; ValueError if grey lies apart from what is white. uint8 (H, W) -> bool (H, W)."""
    marked = levels >= HALF
    is_grey = (levels > MAX_LABEL) & ~marked
    near = ndimage.binary_dilation(_blocks(marked), np.ones((3, 3)))
    if (_blocks(is_grey) & ~near).any():
        raise ValueError(f"mask {name} has grey areas of level {int(levels[is_grey].max())}: defect or not? {REPAIR}")
    return marked


def _blocks(plane: np.ndarray) -> np.ndarray:
    """Whether any pixel of a block is true. bool (H, W) -> bool (H / BLOCK, W / BLOCK), rounded up."""
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % BLOCK), (0, -width % BLOCK)))
    return np.asarray(padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK).any(axis=(1, 3)))


def _note(marked: np.ndarray, num_greys: int) -> str | None:
    share = marked.mean()
    if share > 0.5:
        return f"marks {share:.0%} of the picture (white on black? else invert it)"
    if num_greys > MANY_LEVELS:
        return f"has {num_greys} grey levels, taken as defect from half on (draw it without blur, save it as PNG)"
    return None
