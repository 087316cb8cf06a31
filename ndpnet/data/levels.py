"""How many bits a set of pictures uses: what its files say, what its levels show, and the step down to 8 bits."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

import numpy as np

DEPTHS = (8, 10, 12, 14, 16)  # of cameras; written to 16-bit files as they are
MIN_HIGHEST = 64  # a picture that is darker fits any depth: the lens was covered


@dataclass(frozen=True, slots=True)
class Levels:
    """The levels of one picture. stored: bits a sample, 8, 12 or 16; declared: bits that its file says are used."""

    stored: int
    highest: int
    mean: float
    declared: int | None = None

    @property
    def own_depth(self) -> int:
        """The fewest bits that hold its highest level."""
        return next(depth for depth in DEPTHS if self.highest < 2**depth)

    @property
    def said(self) -> int | None:
        """The bits that its file says are used; None: nothing, or the samples were scaled up to all 16 bits."""
        return self.declared if self.declared is not None and self.highest < 2**self.declared else None

    def contradicts(self, depth: int) -> bool:
        """Whether its file says that it is no picture of a set of `depth` bits; samples of 16 may be scaled up."""
        return self.said is not None and self.said != depth and (depth < 16 or self.stored == 12)


def count_levels(samples: np.ndarray) -> np.ndarray:
    """Count each level. uint8 or uint16 (H, W) or (H, W, C) -> (C, 256) or (C, 65536)."""
    planes = samples.reshape(*samples.shape[:2], -1)
    counts = np.zeros((planes.shape[2], np.iinfo(samples.dtype).max + 1))
    for top in range(0, len(planes), 256):  # some rows at a time: bincount takes eight bytes a pixel
        for channel in range(planes.shape[2]):
            counts[channel] += np.bincount(planes[top : top + 256, :, channel].ravel(), minlength=counts.shape[1])
    return counts


def depth_of_set(pictures: Iterable[tuple[str, Levels]]) -> int:
    """Bits that all pictures of a set use, given as (name, levels): as their files say, else as the brightest shows.

    ValueError names two pictures of different depths; 8 and 16 bits, both used in full, go together.
    """
    pictures = list(pictures)
    wide = [(name, levels) for name, levels in pictures if levels.stored > 8]
    if not wide:
        return 8
    brightest, highest = max(wide, key=lambda item: item[1].highest)
    depth = max(highest.own_depth, *(levels.said or 8 for _, levels in wide))
    reference = next((name for name, levels in wide if levels.said == depth), brightest)
    for name, levels in pictures:
        if levels.contradicts(depth) or (levels.stored == 8 and depth < 16):
            raise _mixture(name, f"{levels.said or 8} bits", reference, f"{depth}")
    _check_means(wide, depth)
    return depth


def _check_means(wide: list[tuple[str, Levels]], depth: int) -> None:
    """Refuse a picture that looks like the others if fewer bits were its range, and not as it is."""
    like = [(name, levels) for name, levels in wide if levels.own_depth == depth]
    if not like:
        return
    usual = median(levels.mean for _, levels in like)
    for name, levels in wide:
        missing = depth - levels.own_depth
        is_black = levels.highest < MIN_HIGHEST
        if not is_black and levels.mean > 0 and missing / 2 < np.log2(usual / levels.mean) < 1.5 * missing:
            raise _mixture(name, f"{levels.own_depth} bits", like[0][0], f"{depth}")


def table_of(levels: Levels, depth: int | None, name: str, *, is_inverted: bool = False) -> np.ndarray:
    """The 8-bit value of every level of a picture in a set of `depth` bits (None: unknown). -> uint8 (2^depth,).

    value = level * 255 / (2^depth - 1), rounded. ValueError: the picture has another depth than the set.
    """
    if depth is None:
        depth = levels.said or 16
    elif depth == 8 and levels.own_depth == 16:
        depth = 16  # used in full, as the 8 bits of the others
    elif levels.highest >= 2**depth or depth == 8 or levels.contradicts(depth):
        own = f"{levels.said} bits" if levels.said else f"levels up to {levels.highest}"
        of_set = f"the pictures it belongs to have {depth} bits (save it as they are)"
        raise ValueError(f"cannot read {name}: {own} in a {levels.stored}-bit file, {of_set}")
    full = 2**depth - 1
    values = (510 * np.arange(full + 1, dtype=np.uint32) + full) // (2 * full)
    return (255 - values if is_inverted else values).astype(np.uint8)


def _mixture(first: str, bits: str, second: str, others: str) -> ValueError:
    both = f"{first} has levels of {bits}, {second} of {others}"
    return ValueError(f"{both}: a set has one depth (save all pictures with the same bits)")
