"""Maps by other means than MSDSM, against hand-made cases."""

import numpy as np
import pytest
import torch
from samples import Pipeline

from ndpnet.benchmark.scoring import MAPS, line_gap, open_scored, pixel_gap, structural_difference
from ndpnet.data.prepared import PreparedData
from ndpnet.inference.inspector import Inspector
from ndpnet.model.segmentation import filter_map


def test_ssim_of_even_pictures_is_their_luminance() -> None:
    first, second = torch.full((1, 3, 64, 80), 0.4), torch.full((1, 3, 64, 80), 0.6)
    expected = 1 - (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)  # C1 is 0.01 squared
    found = structural_difference(None, first, second)[0, 0].numpy()
    np.testing.assert_allclose(found, np.full((64, 80), expected), atol=1e-5)


@pytest.mark.parametrize("scoring", sorted(set(MAPS) - {"lines_alone"}))
def test_an_inspector_says_what_its_scoring_says(pipeline: Pipeline, scoring: str) -> None:
    inspector = Inspector.load(pipeline.model_dir)
    image = np.asarray(PreparedData.load(pipeline.prepared_dir).images("train")[0])
    scored = open_scored(inspector, scoring)
    prediction = scored.predict(image)
    assert scored.threshold is None  # it was fitted on other maps
    own = inspector.predict(image)
    rebuilt = inspector.rebuild(image)
    np.testing.assert_array_equal(scored.rebuild(image), rebuilt)
    assert not np.array_equal(prediction.anomaly_map, own.anomaly_map)
    assert prediction.score == prediction.anomaly_map.max()
    # the reconstruction was rounded to 8 bits
    pair = [torch.from_numpy(each / 255.0).float().permute(2, 0, 1)[None] for each in (image, rebuilt)]
    if scoring == "pixel_gap":
        np.testing.assert_allclose(prediction.anomaly_map, filter_map(pixel_gap(None, *pair))[0, 0].numpy(), atol=0.01)
    if scoring == "line_gap":
        np.testing.assert_allclose(prediction.anomaly_map, line_gap(None, *pair)[0, 0].numpy(), atol=0.003)


def test_lines_alone_ask_no_network(pipeline: Pipeline) -> None:
    inspector = Inspector.load(pipeline.model_dir)
    image = np.asarray(PreparedData.load(pipeline.prepared_dir).images("train")[0])
    scored = open_scored(inspector, "lines_alone")
    prediction = scored.predict(image)
    pixels = torch.from_numpy(image / 255.0).float().permute(2, 0, 1)[None]
    expected = line_gap(None, pixels, torch.zeros_like(pixels))
    np.testing.assert_allclose(prediction.anomaly_map, expected[0, 0].numpy(), atol=1e-5)
    assert scored.threshold is None
