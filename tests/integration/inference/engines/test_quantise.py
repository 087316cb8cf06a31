"""int8 by NNCF on a graph of two convolutions: kept where it costs little, taken back where it costs too much."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from ndpnet.inference.engines.quantise import kept_in_floating_point, quantise
from ndpnet.inference.engines.runtimes import INPUT, MAP, OUTPUTS, RunGraph, load_module

SIDE = 16
IMAGES = np.random.default_rng(0).integers(0, 256, (24, SIDE, SIDE, 3), dtype=np.uint8)


def small_model(*, has_filter: bool = False) -> Any:
    """uint8 (1, S, S, 3) -> a sigmoid of the second convolution, filtered or not, the first one as "reconstruction"."""
    openvino = load_module("openvino")
    ops, rng = openvino.opset13, np.random.default_rng(1)

    def convolve(node: Any, num_in: int, num_out: int) -> Any:
        weights = rng.normal(0, 0.3, (num_out, num_in, 3, 3)).astype(np.float32)
        return ops.convolution(node, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])

    images = ops.parameter([1, SIDE, SIDE, 3], np.uint8, name=INPUT)
    images.output(0).get_tensor().set_names({INPUT})
    unit = ops.divide(ops.convert(ops.transpose(images, [0, 3, 1, 2]), "f32"), np.float32(255))
    hidden = ops.relu(convolve(unit, 3, 8))
    logit = convolve(convolve(hidden, 8, 1), 1, 1) if has_filter else convolve(hidden, 8, 1)
    anomaly_map = ops.sigmoid(ops.reshape(logit, [1, SIDE, SIDE], special_zero=False))
    outputs = [anomaly_map.output(0), hidden.output(0)]
    for output, name in zip(outputs, OUTPUTS, strict=True):
        output.get_tensor().set_names({name})
    return openvino.Model([ops.result(output) for output in outputs], [images])


def run_float(images: np.ndarray) -> Sequence[np.ndarray]:
    """The small model as it is."""
    results = load_module("openvino").compile_model(small_model(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(images)
    return [results[name] for name in OUTPUTS]


@cache
def expected_maps() -> np.ndarray:
    return np.concatenate([run_float(image[None])[0] for image in IMAGES])


def judge(run: RunGraph, rows: Sequence[int]) -> tuple[float, list[float]]:
    """Mean and single differences of maps to those in floating point."""
    costs = [float(np.abs(run(IMAGES[row : row + 1], MAP) - expected_maps()[row]).mean()) for row in rows]
    return float(np.mean(costs)), costs


@pytest.mark.parametrize(("max_loss", "num_quantised"), [(0.1, 2), (1e-6, 0)])
def test_layers_that_cost_too_much_are_taken_back(max_loss: float, num_quantised: int) -> None:
    model = quantise(small_model(), IMAGES[:16], IMAGES, judge, max_loss=max_loss)
    kinds = {node.get_friendly_name(): node.get_type_name() for node in model.get_ops()}
    convolutions = [node for node in model.get_ops() if node.get_type_name() == "Convolution"]
    sources = [node.input(0).get_source_output().get_node().get_type_name() for node in convolutions]
    assert len(convolutions) == 2
    assert sources.count("FakeQuantize") == num_quantised
    if num_quantised == 0:
        assert "FakeQuantize" not in kinds.values()


def test_filters_of_the_map_stay_in_floating_point() -> None:
    model = small_model(has_filter=True)
    names = {
        node.input_value(1).get_shape()[1]: node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "Convolution"
    }
    ignored = kept_in_floating_point(model).names
    assert [channels for channels, name in sorted(names.items()) if name in ignored] == [1]
