"""What counts as a defect: zones of a picture with thresholds of their own, and the smallest area."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from pydantic import Field, model_validator

from ndpnet.config import NotNegative, Positive, Section, parse
from ndpnet.files import read_yaml

RULES = "rules.json"

Above0 = Annotated[float, Field(gt=0)]
Corner = tuple[NotNegative, NotNegative]


class Zone(Section):
    """A part of every picture; its threshold is `factor` times that of the rest, without a factor nothing counts."""

    name: str
    polygon: Annotated[tuple[Corner, ...], Field(min_length=3)]  # (x, y) in pixels of the picture
    factor: Above0 | None

    @model_validator(mode="before")
    @classmethod
    def _box_as_polygon(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "box" not in values:
            return values
        if not (isinstance(values["box"], list | tuple) and len(values["box"]) == 4):
            raise ValueError(f"zone {values.get('name')}: a box is [left, top, width, height], in pixels")
        left, top, width, height = values["box"]
        right, bottom = left + width, top + height
        corners = ((left, top), (right, top), (right, bottom), (left, bottom))
        return {name: value for name, value in values.items() if name != "box"} | {"polygon": corners}


class Rules(Section):
    """The rules of a model for pictures of one size."""

    width: Positive
    height: Positive
    zones: tuple[Zone, ...] = ()
    smallest_defect: NotNegative = 0.0  # area in pixels of the picture, with mm_per_pixel in square millimetres
    mm_per_pixel: Above0 | None = None

    def check_size(self, width: int, height: int, *, name: str) -> None:
        """ValueError: a picture of another size."""
        if (width, height) != (self.width, self.height):
            raise ValueError(
                f"{name} has {width}x{height} pixels, the model's rules are for {self.width}x{self.height} "
                "(calibrate anew, with rules for this camera)"
            )

    def weights(self, shape: tuple[int, int]) -> np.ndarray | None:
        """What the anomaly map is multiplied with; None without zones. shape: (H, W) of the map -> float32 in [0, 1].

        A threshold F times as high is a map 1 / F times as high; the most sensitive zone has 1.
        """
        if not self.zones:
            return None
        y, x = ((np.arange(num) + 0.5) * side / num for num, side in zip(shape, (self.height, self.width), strict=True))
        weights = np.ones(shape, dtype=np.float32)
        for zone in self.zones:  # where two overlap the later one holds
            weights[_inside(zone.polygon, x, y[:, None])] = 1.0 / zone.factor if zone.factor else 0.0
        if not weights.any():
            raise ValueError("the rules' zones leave nothing to inspect (give one a factor)")
        return weights / max(weights.max(), np.float32(1.0))

    def num_pixels(self, shape: tuple[int, int]) -> int:
        """The smallest defect in pixels of an anomaly map of shape (H, W)."""
        area = self.smallest_defect / (self.mm_per_pixel or 1.0) ** 2
        return max(1, math.ceil(area * shape[0] * shape[1] / (self.width * self.height)))


def _inside(polygon: Sequence[Corner], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points lie inside: a ray to the right crosses the edges an odd number of times. (W,), (H, 1) -> (H, W)."""
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


def load_rules(path: Path, width: int, height: int) -> Rules:
    """Read a person's rules for pictures of this size. ValueError in one line."""
    try:
        values = read_yaml(Path(path))
        if not isinstance(values, dict):
            raise ValueError("it has neither zones: nor smallest_defect:")
        rules = parse(Rules, {"width": width, "height": height} | values)
    except FileNotFoundError as error:
        raise ValueError(f"no file {path} (check the path of the rules)") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot read the rules {path}: {reason} (docs/station.md has an example)") from error
    for zone in rules.zones:
        if any(x > width or y > height for x, y in zone.polygon):
            raise ValueError(f"{path}: zone {zone.name} lies outside pictures of {width}x{height} pixels")
    return rules
