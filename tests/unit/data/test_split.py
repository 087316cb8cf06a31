"""Groups and the split by their hash."""

import hashlib
from collections import Counter

import pytest

from ndpnet.data.split import assign_splits, group_of

FRACTIONS = {"calibration_fraction": 0.2, "validation_fraction": 0.1}


def test_adding_groups_moves_none() -> None:
    names = [f"roll{number}" for number in range(200)]
    every = assign_splits(names, **FRACTIONS)
    counts = Counter(every.values())
    assert (counts["calibration"], counts["validation"]) == (pytest.approx(40, abs=12), pytest.approx(20, abs=9))
    assert assign_splits(names[:60], **FRACTIONS).items() <= every.items()


@pytest.mark.parametrize(("calibration", "validation"), [(0.1, 0.05), (0.6, 0.3)])
def test_few_groups_leave_no_share_empty_that_is_asked_for(calibration: float, validation: float) -> None:
    for start in range(50):
        for count in range(1, 7):
            names = [f"roll{number}" for number in range(start, start + count)]
            splits = assign_splits(names, calibration_fraction=calibration, validation_fraction=validation)
            if count > 2:
                assert set(splits.values()) == {"calibration", "validation", "train"}
            alone = assign_splits(names, calibration_fraction=calibration, validation_fraction=0)
            assert "validation" not in alone.values()
    nearest = min("abc", key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert assign_splits("abc", calibration_fraction=1e-9, validation_fraction=0)[nearest] == "calibration"


@pytest.mark.parametrize(("calibration", "validation"), [(-0.1, 0.1), (0.5, 0.5), (0.2, -0.1), (float("nan"), 0.1)])
def test_bad_fractions_are_refused(calibration: float, validation: float) -> None:
    with pytest.raises(ValueError, match="leave no share to train on"):
        assign_splits(["a"], calibration_fraction=calibration, validation_fraction=validation)


def test_group_is_the_capture_group_or_the_match_or_the_path() -> None:
    assert group_of("train/good/part12_scan3_007.png", r"part\d+_(scan\d+)") == "scan3"
    assert group_of("train/good/part12_scan3_007.png", r"part\d+") == "part12"
    assert group_of("train/good/007.png", "") == "train/good/007.png"


def test_the_pattern_sees_the_stem_alone() -> None:
    with pytest.raises(ValueError, match=r"finds no group in train/good/007.png \(another pattern"):
        group_of("train/good/007.png", "good|png")
    with pytest.raises(ValueError, match="is no regular expression"):
        group_of("a.png", "(")
