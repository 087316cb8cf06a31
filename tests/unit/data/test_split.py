"""Groups and the split by their hash."""

import hashlib

import pytest

from ndpnet.data.split import assign_split, group_of

FRACTIONS = {"calibration_fraction": 0.2, "validation_fraction": 0.1}


def test_split_is_the_first_eight_bytes_of_the_hash() -> None:
    share = int(hashlib.sha256(b"scan7").hexdigest()[:16], 16) / 2**64
    above, below = share + 1e-9, share - 1e-9
    assert assign_split("scan7", calibration_fraction=above, validation_fraction=0) == "calibration"
    assert assign_split("scan7", calibration_fraction=below, validation_fraction=0) == "train"
    assert assign_split("scan7", calibration_fraction=below, validation_fraction=2e-9) == "validation"


@pytest.mark.parametrize(("calibration", "validation"), [(-0.1, 0.1), (0.5, 0.5), (0.2, -0.1), (float("nan"), 0.1)])
def test_bad_fractions_are_refused(calibration: float, validation: float) -> None:
    with pytest.raises(ValueError, match="leave no share to train on"):
        assign_split("a", calibration_fraction=calibration, validation_fraction=validation)


def test_group_is_the_capture_group_or_the_match_or_the_path() -> None:
    assert group_of("train/good/part12_scan3_007.png", r"part\d+_(scan\d+)") == "scan3"
    assert group_of("train/good/part12_scan3_007.png", r"part\d+") == "part12"
    assert group_of("train/good/007.png", "") == "train/good/007.png"


def test_the_pattern_sees_the_stem_alone() -> None:
    with pytest.raises(ValueError, match=r"finds no group in train/good/007.png \(another pattern"):
        group_of("train/good/007.png", "good|png")
    with pytest.raises(ValueError, match="is no regular expression"):
        group_of("a.png", "(")
