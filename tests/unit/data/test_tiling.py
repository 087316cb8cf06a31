"""The tile grid: every pixel covered, on multiples of 64, weights that sum to 1 and vanish at the tiles' borders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndpnet.data.tiling import OVERLAP, Tiling, cut_tile, training_origins

tilings = st.integers(2, 9).map(lambda count: Tiling(64 * count))


@given(tilings, st.integers(1, 3000))
def test_every_pixel_is_covered_by_tiles_at_multiples_of_64(tiling: Tiling, length: int) -> None:
    offsets = tiling.offsets(length)
    assert offsets[0] == 0
    assert all(offset % 64 == 0 for offset in offsets)
    steps = np.diff(offsets)
    assert (steps > 0).all()
    assert (steps <= tiling.side - OVERLAP).all()  # no gap, and nowhere less overlap than asked for
    assert offsets[-1] + tiling.side >= length
    assert offsets[-1] == 0 or offsets[-1] + tiling.side - length < 64  # hardly more than the scan


@given(tilings, st.integers(1, 3000))
def test_weights_sum_to_one_and_fade_at_inner_borders(tiling: Tiling, length: int) -> None:
    offsets, weights = tiling.offsets(length), tiling.weights(length)
    assert weights.shape == (len(offsets), tiling.side)
    total = np.zeros(offsets[-1] + tiling.side)
    for offset, weight in zip(offsets, weights, strict=True):
        total[offset : offset + tiling.side] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert (weights >= 0).all()
    assert (weights[1:, 0] < 0.002).all()
    assert (weights[:-1, -1] < 0.002).all()
    assert np.abs(np.diff(weights, axis=1)).max(initial=0) < 0.05  # smooth: the ramp takes 64 pixels or more


@pytest.mark.parametrize(("height", "width"), [(129, 140), (64, 190), (191, 64)])
def test_beyond_its_end_a_scan_goes_on_as_it_was(height: int, width: int) -> None:
    rows, columns = np.mgrid[:320, :320]
    # a mirror image would turn its diagonals
    weave = np.repeat(((rows + columns) % 10 * 25).astype(np.uint8)[:, :, None], 3, axis=2)
    tiling = Tiling(128)
    for top in tiling.offsets(height):
        for left in tiling.offsets(width):
            tile = cut_tile(weave[:height, :width], top, left, 128)
            np.testing.assert_array_equal(tile, weave[top : top + 128, left : left + 128])


def test_training_tiles_by_hand() -> None:
    grid = {"side": 64, "stride": 64, "margin": 0}
    assert training_origins(128, 64, **grid) == [(0, 0), (64, 0)]
    assert training_origins(150, 64, **grid) == [(0, 0), (64, 0), (86, 0)]
    assert training_origins(64, 64, **grid) == [(0, 0)]
    assert training_origins(63, 64, **grid) == []
    assert training_origins(100, 90, side=64, stride=32, margin=10) == [(10, 10), (26, 10), (10, 16), (26, 16)]
    assert training_origins(83, 90, side=64, stride=32, margin=10) == []
