"""The summary against the metrics it is made of, and what it says when something is missing."""

import re

import numpy as np
import pytest

from ndpnet.metrics import exact
from ndpnet.metrics.summary import ScoredImages, format_table, summarise
from ndpnet.metrics.threshold import fit_threshold

INTERVALS = ["image_auroc", "pixel_auroc", "pro_auc", "f1", "precision", "recall", "recall_overlap"]
INTERVALS += ["false_alarm_rate"]


def demo_set() -> dict:
    """24 test images: 10 good, 8 with a cut (clear), 6 with a stain (faint)."""
    rng = np.random.default_rng(0)
    types = ["good"] * 10 + ["cut"] * 8 + ["stain"] * 6
    masks = np.zeros((24, 32, 32), dtype=np.uint8)
    masks[10:18, 4:9, 3:20] = 1
    masks[18:, 20:24, 20:24] = 1
    maps = rng.random(masks.shape).astype(np.float32)
    maps[10:18] += 0.8 * masks[10:18]
    maps[18:] += 0.15 * masks[18:]
    threshold = fit_threshold(0.99 + 0.02 * rng.random(120), [str(index) for index in range(120)], target_rate=0.05)
    return {
        "groups": np.array([f"image{index}" for index in range(24)]),
        "types": np.array(types),
        "scores": maps.max(axis=(1, 2)).astype(np.float64),
        "threshold_record": threshold,
        "maps": maps,
        "masks": masks,
    }


def summary_of(data: dict) -> dict:
    return summarise(ScoredImages(**data), category="leather")


def rows_of(data: dict, *types: str) -> np.ndarray:
    return np.isin(data["types"], types)


def part_of(data: dict, keep: np.ndarray) -> dict:
    """The set without some images."""
    names = ("groups", "types", "scores", "maps", "masks")
    return data | {name: np.asarray(data[name])[keep] for name in names}


def test_the_summary_is_the_exact_metrics_with_intervals() -> None:
    data = demo_set()
    summary = summary_of(data)
    labels = ~rows_of(data, "good")
    assert (summary["num_good"], summary["num_defective"], summary["has_masks"]) == (10, 14, True)
    assert summary["image_auroc"]["value"] == exact.image_auroc(data["scores"], labels)
    assert summary["pixel_auroc"]["value"] == exact.pixel_auroc(data["maps"], data["masks"])
    assert summary["pro_auc"]["value"] == exact.pro_auc(data["maps"], data["masks"])
    counts = exact.confusion(data["scores"], labels, data["threshold_record"]["value"])
    assert summary["confusion"] == counts
    assert summary["f1"]["value"] == pytest.approx(exact.f1(counts), abs=1e-12)
    assert summary["recall"]["value"] == pytest.approx(counts["true_positive"] / 14, abs=1e-12)
    assert summary["false_alarm_rate"]["value"] == pytest.approx(counts["false_positive"] / 10, abs=1e-12)
    num_called = counts["true_positive"] + counts["false_positive"]
    assert summary["precision"]["value"] == pytest.approx(counts["true_positive"] / num_called, abs=1e-12)
    for name in INTERVALS:
        interval = summary[name]
        assert 0 <= interval["low"] <= interval["value"] <= interval["high"] <= 1
    assert 0.002 < summary["pixel_auroc"]["high"] - summary["pixel_auroc"]["low"] < 0.5
    assert summary["threshold"] == data["threshold_record"]
    assert summary["notes"] == []


def test_each_defect_type_is_held_against_all_good_images() -> None:
    data = demo_set()
    by_type = summary_of(data)["by_defect_type"]
    assert list(by_type) == ["cut", "stain"]
    for name, entry in by_type.items():
        rows = rows_of(data, "good", name)
        assert entry["count"] == rows.sum() - 10
        labels = ~rows_of(data, "good")[rows]
        assert entry["image_auroc"]["value"] == exact.image_auroc(data["scores"][rows], labels)
        assert entry["pixel_auroc"]["value"] == exact.pixel_auroc(data["maps"][rows], data["masks"][rows])
        assert entry["pro_auc"]["value"] == exact.pro_auc(data["maps"][rows], data["masks"][rows])
        calls = data["scores"][rows_of(data, name)] > data["threshold_record"]["value"]
        assert entry["recall"]["value"] == calls.mean()
    assert by_type["cut"]["pro_auc"]["low"] > by_type["stain"]["pro_auc"]["high"]


def test_found_with_overlap_is_found_where_the_defect_is() -> None:
    data = demo_set()
    data["threshold_record"] |= {"value": 0.9}
    data["maps"][:] = 0.5
    data["maps"][10:18, 6, 6] = 0.95  # inside every cut
    data["maps"][10:13, 6, 6] = 0.6  # three of them are flagged for a speck elsewhere
    data["maps"][10:13, 30, 30] = 0.95
    data["scores"] = data["maps"].max(axis=(1, 2)).astype(np.float64)
    summary = summary_of(data)
    assert (summary["recall"]["value"], summary["recall_overlap"]["value"]) == (8 / 14, 5 / 14)
    cut, stain = summary["by_defect_type"]["cut"], summary["by_defect_type"]["stain"]
    assert (cut["recall"]["value"], cut["recall_overlap"]["value"]) == (1.0, 5 / 8)
    assert (stain["recall"]["value"], stain["recall_overlap"]["value"]) == (0.0, 0.0)
    data["masks"][10] = 0  # nobody says where this one is
    assert summary_of(data)["recall_overlap"]["value"] == 5 / 13


def test_no_good_test_images() -> None:
    data = demo_set()
    data = part_of(data, ~rows_of(data, "good"))
    summary = summary_of(data)
    for name in ("image_auroc", "precision", "f1", "false_alarm_rate"):
        assert summary[name] is None
    assert summary["recall"]["value"] == summary["confusion"]["true_positive"] / 14
    assert summary["pixel_auroc"]["value"] == exact.pixel_auroc(data["maps"], data["masks"])
    assert summary["by_defect_type"]["cut"]["image_auroc"] is None
    assert summary["notes"] == ["No good test images: image ROCAUC, precision, F1 and the false-alarm rate are n/a."]
    assert "n/a" in format_table(summary)


def test_good_images_only() -> None:
    data = demo_set()
    summary = summary_of(part_of(data, rows_of(data, "good")))
    assert [name for name in INTERVALS if summary[name] is not None] == ["false_alarm_rate"]
    assert summary["by_defect_type"] == {}
    assert summary["notes"][0].startswith("No defective test images")
    assert "leather: 10 good and 0 defective" in format_table(summary)


def test_no_masks_no_maps_and_no_threshold() -> None:
    data = demo_set() | {"masks": None, "threshold_record": None}
    summary = summary_of(data)
    assert [name for name in INTERVALS if summary[name] is not None] == ["image_auroc"]
    assert (summary["has_masks"], summary["confusion"], summary["threshold"]) == (False, None, None)
    assert summary["by_defect_type"]["cut"]["recall"] is None
    assert len(summary["notes"]) == 2
    assert summary["notes"][0] == "No masks: image metrics only."
    assert summary["notes"][1].startswith("No threshold")


def test_a_defective_image_without_a_mask_is_left_out_of_the_pixel_metrics() -> None:
    data = demo_set()
    data["masks"][10:12] = 0
    keep = np.ones(24, dtype=bool)
    keep[10:12] = False
    summary = summary_of(data)
    assert summary["pixel_auroc"]["value"] == exact.pixel_auroc(data["maps"][keep], data["masks"][keep])
    assert summary["by_defect_type"]["cut"]["count"] == 8
    assert "2 defective images have an empty mask" in summary["notes"][0]
    drawn = ScoredImages(**data).pixels.pro_curve
    np.testing.assert_array_equal(drawn, exact.rank_pixels(data["maps"][keep], data["masks"][keep]).pro_curve())
    data["masks"][:] = 0
    assert summary_of(data)["pixel_auroc"] is None


def test_few_units_are_pointed_out_and_a_perfect_score_is_no_certainty() -> None:
    data = demo_set()
    data["groups"] = np.array(["scan1"] * 5 + ["scan2"] * 5 + [f"scan{index}" for index in range(3, 17)])
    data["scores"] = np.arange(24.0)
    data["threshold_record"] |= {"value": 12.5}
    summary = summary_of(data)
    assert summary["image_auroc"] == {"value": 1.0, "low": pytest.approx(0.025 ** (1 / 2)), "high": 1.0}
    assert any("2 < 5 independent units" in note for note in summary["notes"])


def test_where_nothing_is_called_defective_precision_is_unknown() -> None:
    data = demo_set()
    data["threshold_record"] |= {"value": data["scores"].max()}  # at the threshold an image is passed
    summary = summary_of(data)
    assert (summary["precision"], summary["recall"]["value"], summary["f1"]["value"]) == (None, 0, 0)
    assert summary["notes"] == ["No test image is called defective: precision is n/a."]


def test_the_table_shows_what_the_summary_holds() -> None:
    summary = summary_of(demo_set())
    lines = format_table(summary).splitlines()
    assert lines[0] == "leather: 10 good and 14 defective test images"
    pro = summary["pro_auc"]
    row = next(line for line in lines if line.startswith("PROAUC"))
    shown = [float(number) for number in re.findall(r"[\d.]+", row)]
    assert shown == pytest.approx([100 * pro[key] for key in ("value", "low", "high")], abs=0.051)
    assert any(re.match(r"stain +6 ", line) for line in lines)
    assert lines[-1].endswith(summary["threshold"]["statement"])
    assert max(len(line) for line in lines[:-1]) <= 120
