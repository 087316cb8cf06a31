"""Maps by other means than MSDSM, against hand-made cases and scikit-image."""

import numpy as np
import pytest
import torch
from networks import normal, uniform
from samples import Pipeline
from skimage.metrics import structural_similarity

from ndpnet.benchmark.scoring import MAPS, line_gap, open_scored, pixel_gap, structural_difference
from ndpnet.data.prepared import PreparedData
from ndpnet.inference.inspector import Inspector
from ndpnet.model.segmentation import filter_map


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    image = uniform(1, 3, 64, 64)
    return image, (image + 0.1 * normal(1, 3, 64, 64)).clamp(0, 1)


def test_ssim_is_scikit_images() -> None:
    image, rebuilt = pair()
    first, second = (each[0].permute(1, 2, 0).double().numpy() for each in (image, rebuilt))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    _, full = structural_similarity(first, second, channel_axis=2, full=True, **options)
    found = structural_difference(None, image.double(), rebuilt.double())[0, 0].numpy()
    # at the border scikit-image reflects otherwise
    np.testing.assert_allclose(found[6:-6, 6:-6], 1 - full.mean(axis=2)[6:-6, 6:-6], atol=1e-6)


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
