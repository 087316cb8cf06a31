"""Which cases the report shows, what of a scan, and how a picture gets into the page."""

import base64
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ndpnet.evaluation.cases import CasePictures, _worst_spot, embed_image, window_around
from ndpnet.evaluation.judging import order_cases, verdict_of


@pytest.mark.parametrize(
    ("spot", "size", "expected"),
    [
        ((300, 400), (1000, 1000), ((44, 556), (144, 656))),
        ((0, 0), (1000, 1000), ((0, 512), (0, 512))),
        ((999, 999), (1000, 1000), ((488, 1000), (488, 1000))),
        ((50, 700), (100, 800), ((0, 512), (288, 800))),
    ],
)
def test_the_spot_is_in_the_middle_as_far_as_the_scan_allows(
    spot: tuple[int, int], size: tuple[int, int], expected: tuple[tuple[int, int], ...]
) -> None:
    rows, columns = window_around(spot, size)
    assert ((rows.start, rows.stop), (columns.start, columns.stop)) == expected
    assert rows.start <= spot[0] < rows.stop
    assert columns.start <= spot[1] < columns.stop


def test_a_missed_defect_is_shown_where_it_is() -> None:
    anomaly_map = np.zeros((40, 50), dtype=np.float32)
    anomaly_map[3, 4], anomaly_map[30, 45] = 0.9, 0.2
    truth = np.zeros((40, 50), dtype=np.uint8)
    truth[25:35, 40:50] = 1
    assert _worst_spot(anomaly_map, None) == (3, 4)
    assert _worst_spot(anomaly_map, truth) == (30, 45)
    assert _worst_spot(anomaly_map, np.zeros_like(truth)) == (3, 4)


def test_cases_in_order_of_urgency_by_hand() -> None:
    scores = np.array([0.875, 0.2, 0.4, 0.6, 0.125, 0.8, 0.7, 0.4375, 0.5625])
    labels = np.array([1, 1, 1, 1, 0, 0, 0, 0, 1], dtype=bool)
    # misses 1, 2; false alarms 5, 6; correct by distance to 0.5: 8 and 7 (0.0625), 3 (0.1), 0 and 4 (0.375)
    assert order_cases(scores, labels, 0.5, 9) == [1, 2, 5, 6, 8, 7, 3, 0, 4]
    assert order_cases(scores, labels, 0.5, 4) == [1, 5, 8, 7]  # one of each kind
    assert order_cases(scores, labels, 0.5, 2) == [1, 5]
    assert order_cases(scores, labels, 0.5, 0) == []
    assert order_cases(scores, labels, None, 4) == [1, 2, 5, 6]


def test_many_misses_leave_room_for_the_other_kinds() -> None:
    scores, labels = np.linspace(0, 1, 101), np.ones(101, dtype=bool)
    labels[[10, 99]] = False
    ordered = order_cases(scores, labels, 0.95, 24)
    verdicts = [verdict_of(scores[index], labels[index], 0.95) for index in ordered]
    assert [verdicts.count(kind) for kind in ("missed", "false alarm", "found", "passed")] == [18, 1, 4, 1]
    assert ordered[:3] == [0, 1, 2]


def test_verdict_at_the_threshold_is_passed() -> None:
    assert verdict_of(0.5, False, 0.5) == "passed"
    assert verdict_of(0.5, True, 0.5) == "missed"
    assert verdict_of(0.51, False, 0.5) == "false alarm"
    assert verdict_of(0.51, True, 0.5) == "found"
    assert verdict_of(0.51, True, None) == "defective"


def test_every_case_has_a_file_however_long_and_alike_the_names(tmp_path: Path) -> None:
    image, anomaly_map = np.full((64, 64, 3), 100, dtype=np.uint8), np.full((64, 64), 0.6, dtype=np.float32)
    names = ["a b", "a_b", 80 * "\u6f22"]
    records = [SimpleNamespace(path=f"test/{name}/{80 * chr(0x6F22)}.png", defect_type=name) for name in names]
    judged = SimpleNamespace(
        images=[image] * 3, maps=[anomaly_map] * 3, masks=None, peaks=None, roi=None,
        records=records, scores=np.full(3, 0.6), labels=np.ones(3, dtype=bool),
    )  # fmt: skip
    inspector = SimpleNamespace(map_level=0.1, threshold=0.5, tiling=None, rebuild=np.copy)
    pictures = CasePictures(tmp_path, judged, inspector)
    assert [case["type"] for case in pictures.typical(3)] == names
    pictures.worst(3)
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize(("side", "expected"), [((600, 3000), (1400, 280)), ((20, 30), (30, 20))])
def test_an_embedded_picture_has_a_bounded_size_and_keeps_its_look(
    side: tuple[int, int], expected: tuple[int, int]
) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, side[1]).astype(np.uint8)[None, :, None], (*side, 3))
    embedded = embed_image(np.ascontiguousarray(ramp))
    assert (embedded["width"], embedded["height"]) == expected
    with Image.open(io.BytesIO(base64.b64decode(embedded["uri"].split(",")[1]))) as picture:
        assert picture.size == expected
        assert picture.getpixel((expected[0] // 2, expected[1] // 2)) == pytest.approx((128, 128, 128), abs=6)
