"""What is painted where no real defect is at hand, and what is said of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from networks import Brightness

from ndpnet.data.tiling import Tiling
from ndpnet.evaluation.smallest import SIZES, paint, smallest_found
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.rules import Rules, Zone

GREY = np.full((64, 64, 3), 100, dtype=np.uint8)


class Contrast:
    """Finds what changes enough of a grey picture: score = mean change in grey levels."""

    input_size, threshold, weights = (64, 64), 1.0, None

    def part(self, window: tuple[slice, slice]) -> "Contrast":
        return self

    def predict(self, image: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(score=float(np.abs(image.astype(float) - 100).mean()))


def judged(scores: list[float]) -> SimpleNamespace:
    return SimpleNamespace(
        images=[GREY] * len(scores), scores=np.array(scores), labels=np.zeros(len(scores), dtype=bool)
    )


@pytest.mark.parametrize(("kind", "area"), [("scratch", 16 * 2), ("spot", np.pi * 8**2), ("smear", np.pi * 8**2)])
def test_a_painted_defect_has_its_size_and_contrast(kind: str, area: float) -> None:
    change = paint(GREY, kind, 16, 0.2, spot=(32, 32)).astype(float)[..., 0] - 100
    assert change.max() == pytest.approx(51 if kind != "smear" else 43, abs=2)  # brighter, on a dark surface
    assert change.sum() / 51 == pytest.approx(area, rel=0.15)
    assert paint(GREY + 100, kind, 16, 0.2, spot=(32, 32)).min() < 160


def test_counts_and_sentence_by_hand() -> None:
    found = smallest_found(judged([0.0, 0.5, 9.0]), Contrast())  # the third is a false alarm already
    assert (found["num_images"], found["sizes"]) == (2, [each for each in SIZES if each <= 32])
    spots = dict(found["kinds"][1]["rows"])
    # of 64x64 pixels a spot of 8 px covers 1.3 %: 204 levels of 0.8 make 2.6, 102 make 1.3, 51 make 0.65
    assert [spots[contrast][1] for contrast in (0.2, 0.4, 0.8)] == [0, 2, 2]
    assert "a spot of 8 px at 40 % contrast or of 32 px at 5 % contrast" in found["sentence"]
    assert found == smallest_found(judged([0.0, 0.5, 9.0]), Contrast())


@pytest.mark.parametrize(("tiling", "size"), [(None, (128, 128)), (Tiling(128), (200, 400))])
@pytest.mark.parametrize("is_zone", [True, False])
def test_defects_are_painted_where_they_count_and_judged_as_all_pictures_are(
    tiling: Tiling | None, size: tuple[int, int], is_zone: bool
) -> None:
    """A dark part at the right, on a bright table that is not inspected."""
    height, width = size
    table = np.arange(width) < 0.7 * width
    image = np.where(table[None, :, None], 255, np.full((height, width, 3), 40)).astype(np.uint8)
    zone = Zone(name="table", box=[0, 0, 0.7 * width, height], factor=None)
    seen = {"rules": Rules(width=width, height=height, zones=(zone,), smallest_defect=100)} if is_zone else {}
    seen |= {} if is_zone else {"roi": np.repeat(~table[None], height, axis=0)}
    inspector = Inspector(Brightness(), input_size=(128, 128), threshold=0.5, tiling=tiling, **seen)
    good = SimpleNamespace(images=[image], scores=np.array([0.2]), labels=np.array([False]))
    spots = dict(smallest_found(good, inspector)["kinds"][1]["rows"])
    assert spots[0.2] == [0] * 5
    assert spots[0.8][1:] == ([0, 1, 1, 1] if is_zone else [1, 1, 1, 1])  # of 8 px: an area of 50 pixels


def test_nothing_is_painted_where_nothing_could_be_said() -> None:
    assert smallest_found(judged([9.0]), Contrast()) is None
    part_is_flagged = judged([0.0])  # of a scan that passes
    part_is_flagged.images = [GREY + 9]
    assert smallest_found(part_is_flagged, Contrast()) is None
    unjudged = Contrast()
    unjudged.threshold = None
    assert smallest_found(judged([0.0]), unjudged) is None
