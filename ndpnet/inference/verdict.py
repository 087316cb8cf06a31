"""What a model says of one picture."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ndpnet.data.fitting import resize, scale_mask
from ndpnet.inference.regions import Region


def word_of(score: float, threshold: float | None, review_threshold: float | None) -> str:
    """Good, defective, or review: a person should look; unknown where the model has no threshold."""
    if threshold is None:
        return "unknown"
    if score > threshold:
        return "defective"
    return "review" if review_threshold is not None and score > review_threshold else "good"


@dataclass(frozen=True)
class Verdict:
    """What the model says of one image. Maps have the image's own size (H, W), and are made when asked for."""

    score: float
    threshold: float | None
    size: tuple[int, int]  # height and width of the image
    regions: tuple[Region, ...]
    network_map: np.ndarray = field(repr=False)  # as `anomaly_map`, `mask` and `roi`, at the network's resolution
    network_mask: np.ndarray = field(repr=False)
    network_roi: np.ndarray | None = field(repr=False, default=None)
    review_threshold: float | None = None  # None: two verdicts
    warnings: tuple[str, ...] = ()  # how the picture is unlike those of the calibration
    pixels: Callable[[], np.ndarray] | None = field(repr=False, default=None)  # of what `Inspector.inspect` judged
    rebuild: Callable[[], np.ndarray] | None = field(repr=False, default=None)  # what `reconstruction` is made by
    map_level: float | None = field(repr=False, default=None)  # where the colours of the map start

    @cached_property
    def anomaly_map(self) -> np.ndarray:
        """Float32 (H, W) in [0, 1]."""
        anomaly_map = resize(self.network_map, self.size)
        # interpolation reaches over the region's edge
        return anomaly_map if self.roi is None else np.where(self.roi, anomaly_map, np.float32(0))

    @cached_property
    def mask(self) -> np.ndarray:
        """Where the defects are. bool (H, W)."""
        return scale_mask(self.network_mask, self.size)

    @cached_property
    def roi(self) -> np.ndarray | None:
        """Bool (H, W), False = ignored; None: all is inspected."""
        return None if self.network_roi is None else scale_mask(self.network_roi, self.size)

    @property
    def image(self) -> np.ndarray | None:
        """The picture that `Inspector.inspect` judged; an array was not copied. uint8 (H, W, 3)."""
        return None if self.pixels is None else self.pixels()

    @cached_property
    def reconstruction(self) -> np.ndarray | None:
        """The good surface that the model expects, at the network's resolution. uint8 (H, W, 3); None of a scan."""
        return None if self.rebuild is None else self.rebuild()

    @property
    def is_defective(self) -> bool | None:
        """Whether the score is above the threshold; None: the model has none."""
        return None if self.threshold is None else self.score > self.threshold

    @property
    def word(self) -> str:
        """Good, defective, review or unknown: see `word_of`."""
        return word_of(self.score, self.threshold, self.review_threshold)

    def save(self, path: str | Path) -> None:
        """Write the picture with score, heat map and contours, as PNG, JPEG or what else the name ends in.

        ValueError: a verdict that has no picture, or an ending that is none.
        """
        image = self.image
        if image is None:
            raise ValueError("this verdict has no picture (only `Inspector.inspect` and `inspect_many` keep it)")
        from ndpnet.inference.overlay import draw_verdict  # matplotlib, which a server of verdicts does without

        Image.fromarray(draw_verdict(image, self)).save(path)

    def __repr__(self) -> str:
        return f"Verdict({self})"

    def __str__(self) -> str:
        bounds = {"review from": self.review_threshold, "threshold": self.threshold}
        shown = [f", {name} {value:.4f}" for name, value in bounds.items() if value is not None]
        return f"{self.word}: score {self.score:.4f}{''.join(shown)}"
