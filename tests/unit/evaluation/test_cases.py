"""The window that the report shows of a scan."""

import pytest

from ndpnet.evaluation.cases import _worst_spot, window_around


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
    import numpy as np

    anomaly_map = np.zeros((40, 50), dtype=np.float32)
    anomaly_map[3, 4], anomaly_map[30, 45] = 0.9, 0.2
    truth = np.zeros((40, 50), dtype=np.uint8)
    truth[25:35, 40:50] = 1
    assert _worst_spot(anomaly_map, None) == (3, 4)
    assert _worst_spot(anomaly_map, truth) == (30, 45)
    assert _worst_spot(anomaly_map, np.zeros_like(truth)) == (3, 4)
