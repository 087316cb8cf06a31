"""What is painted where no real defect is at hand, and what is said of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from ndpnet.evaluation.smallest import SIZES, paint, smallest_found

GREY = np.full((64, 64, 3), 100, dtype=np.uint8)


class Contrast:
    """Finds what changes enough of a grey picture: score = mean change in grey levels."""

    input_size, threshold = (64, 64), 1.0

    def bare(self) -> "Contrast":
        return self

    def predict(self, image: np.ndarray) -> SimpleNamespace:
        return SimpleNamespace(score=float(np.abs(image.astype(float) - 100).mean()))


def judged(scores: list[float]) -> SimpleNamespace:
    return SimpleNamespace(
        images=[GREY] * len(scores), scores=np.array(scores), labels=np.zeros(len(scores), dtype=bool)
    )


@pytest.mark.parametrize(("kind", "area"), [("scratch", 16 * 2), ("spot", np.pi * 8**2), ("smear", np.pi * 8**2)])
def test_a_painted_defect_has_its_size_and_contrast(kind: str, area: float) -> None:
    change = paint(GREY, kind, 16, 0.2).astype(float)[..., 0] - 100
    assert change.max() == pytest.approx(51 if kind != "smear" else 43, abs=2)  # brighter, on a dark surface
    assert change.sum() / 51 == pytest.approx(area, rel=0.15)
    assert paint(GREY + 100, kind, 16, 0.2).min() < 160


def test_counts_and_sentence_by_hand() -> None:
    found = smallest_found(judged([0.0, 0.5, 9.0]), Contrast())  # the third is a false alarm already
    assert (found["num_images"], found["sizes"]) == (2, [each for each in SIZES if each <= 32])
    spots = dict(found["kinds"][1]["rows"])
    # of 64x64 pixels a spot of 8 px covers 1.3 %: 204 levels of 0.8 make 2.6, 102 make 1.3, 51 make 0.65
    assert [spots[contrast][1] for contrast in (0.2, 0.4, 0.8)] == [0, 2, 2]
    assert "a spot of 8 px at 40 % contrast or of 32 px at 5 % contrast" in found["sentence"]
    assert found == smallest_found(judged([0.0, 0.5, 9.0]), Contrast())


def test_nothing_is_painted_where_nothing_could_be_said() -> None:
    assert smallest_found(judged([9.0]), Contrast()) is None
    unjudged = Contrast()
    unjudged.threshold = None
    assert smallest_found(judged([0.0]), unjudged) is None
