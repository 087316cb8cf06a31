"""Scans by overlapping tiles: what a pointwise network says of a picture, tiles must say of its parts."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ndpnet.data.tiling import Tiling
from ndpnet.inference import Inspector
from ndpnet.inference.engines.engine import TorchEngine
from ndpnet.inference.scanning import FILTER_BLOCK, filter_in_place, predict_scan
from ndpnet.model.segmentation import filter_map

CPU = torch.device("cpu")


class Pointwise(nn.Module):
    """A network whose map and reconstruction depend on each pixel alone."""

    def mark(self, batch: torch.Tensor, *, has_filters: bool) -> torch.Tensor:
        assert batch.shape[2] == batch.shape[3]
        assert not has_filters
        return batch.mean(dim=1, keepdim=True) ** 2

    def predict(self, batch: torch.Tensor, *, has_filters: bool) -> tuple[torch.Tensor, torch.Tensor]:
        return self.mark(batch, has_filters=has_filters), 1 - batch


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def filtered(raw: np.ndarray) -> np.ndarray:
    return filter_map(torch.from_numpy(raw)[None, None])[0, 0].numpy()


@pytest.mark.parametrize("side", [128, 256])
@pytest.mark.parametrize(("height", "width"), [(256, 256), (300, 700), (64, 90), (1, 1), (257, 255), (449, 5)])
def test_tiles_of_a_pointwise_network_make_its_map(height: int, width: int, side: int) -> None:
    scan = noise(height, width)
    scan.flags.writeable = False  # as np.asarray of a picture
    engine, tiling = TorchEngine(Pointwise(), CPU, has_filters=False), Tiling(side)
    anomaly_map = predict_scan(engine, scan, tiling)
    raw = (scan.astype(np.float32) / 255).mean(axis=2) ** 2
    np.testing.assert_allclose(anomaly_map, filtered(raw), atol=1e-6)
    assert anomaly_map.dtype == np.float32
    np.testing.assert_array_equal(scanner(tiling=tiling).rebuild(scan), 255 - scan)
    unfiltered = predict_scan(engine, scan, Tiling(side, has_filters=False))
    np.testing.assert_allclose(unfiltered, raw, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(3, 2), (64, 300), (256, 256), (257, 513), (259, 70), (1030, 600)])
def test_block_by_block_the_filters_give_the_same_bits(height: int, width: int) -> None:
    raw = np.random.default_rng(height).random((height, width), dtype=np.float32)
    expected = filtered(raw)
    filter_in_place(raw)
    np.testing.assert_array_equal(raw, expected)
    assert FILTER_BLOCK == 256  # the sizes above lie about its multiples


def scanner(**options: Any) -> Inspector:
    return Inspector(
        TorchEngine(Pointwise(), CPU, has_filters=False),
        input_size=(128, 128),
        **{"threshold": None, "tiling": Tiling(128), **options},
    )


def test_outside_the_region_of_interest_nothing_is_found() -> None:
    scan = np.full((150, 300, 3), 60, dtype=np.uint8)
    scan[50:80, 40:80] = 255  # left: ignored
    scan[50:80, 200:220] = 200  # right
    roi = np.zeros((150, 300), dtype=bool)
    roi[:, 60:] = True
    roi[:, 60:100] = False
    everywhere, inside = scanner(threshold=0.3).inspect(scan), scanner(threshold=0.3, roi=roi).inspect(scan)
    assert everywhere.score == pytest.approx(1)
    assert inside.score == pytest.approx((200 / 255) ** 2, abs=1e-5)
    assert len(everywhere.regions) == 2
    assert [region.left >= 190 for region in inside.regions] == [True]
    np.testing.assert_array_equal(inside.anomaly_map, np.where(roi, everywhere.anomaly_map, 0))
    np.testing.assert_array_equal(inside.roi, roi)
    assert not (inside.mask & ~roi).any()
    assert everywhere.roi is None
    below_zero = scanner(threshold=-1.0, roi=roi).inspect(scan)  # even so
    assert not (below_zero.mask & ~roi).any()


def test_a_scan_of_another_size_than_the_region_is_refused_by_name() -> None:
    roi = np.ones((150, 300), dtype=bool)
    with pytest.raises(ValueError, match=r"^camera 2 has 300x151 pixels, the region of interest 300x150 \(draw roi"):
        scanner(roi=roi).inspect(noise(151, 300), name="camera 2")
    with pytest.raises(
        ValueError, match=r"^p\.png has 300x151 pixels, the model's region of interest or zones 300x150$"
    ):
        scanner(roi=roi).predict(noise(151, 300), name="p.png")


def test_a_scaled_region_is_that_of_the_scaled_scan() -> None:
    roi = np.zeros((200, 400), dtype=bool)
    roi[:, 200:] = True
    scan = np.full((200, 400, 3), 255, dtype=np.uint8)
    verdict = scanner(threshold=0.5, tiling=Tiling(128, 0.5), roi=roi).inspect(scan)
    np.testing.assert_array_equal(verdict.mask, roi)
    np.testing.assert_array_equal(verdict.anomaly_map > 0, roi)
