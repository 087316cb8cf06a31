"""An int8 graph: quantised after training by training images, its accuracy controlled on synthetic validation ones."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ndpnet.inference.engines.rounding import with_sources
from ndpnet.inference.engines.runtimes import INPUT, MAP, RunGraph, float_type_here, load_module, openvino_settings

logger = logging.getLogger(__name__)

# of a graph on rows of the validation images: what it loses as a whole, and what each image costs
Judge = Callable[[RunGraph, Sequence[int]], tuple[float, Sequence[float]]]
# the softmax weights of many reference patches are nearly uniform: eight bits cannot tell them apart
KEPT_OPERATIONS = ("MatMul", "Softmax")


def quantise(
    model: Any, training: Sequence[np.ndarray], validation: np.ndarray, judge: Judge, *, max_loss: float
) -> Any:
    """Quantise an `openvino.Model`, and take back layers that cost too much.

    training: N of uint8 (H, W, 3), which the ranges of activations are taken from; validation: uint8 (M, H, W, 3), on
    which the graph may lose `max_loss` by `judge`.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # misses CUDA when nncf is imported
    nncf = load_module("nncf")
    nncf.set_log_level(logging.ERROR)
    calibration = nncf.Dataset([image[None] for image in training], lambda image: {INPUT: image})
    options = {"subset_size": len(training), "ignored_scope": kept_in_floating_point(model)}
    quantised = nncf.quantize(model, calibration, **options)
    loss, _ = judge(_as_run(quantised), range(len(validation)))
    if loss <= max_loss:
        return quantised
    logger.info("int8 loses %.4f: taking back the layers that cost most, until it loses %.4f", loss, max_loss)

    def validate(candidate: Any, items: Iterable[tuple[int, np.ndarray]]) -> tuple[float, list[float]]:
        loss, costs = judge(_as_run(candidate), [row for row, _ in items])
        return 1 - loss, [1 - cost for cost in costs]  # NNCF divides by what the float graph reaches

    return nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=calibration,
        validation_dataset=nncf.Dataset(list(enumerate(validation)), lambda item: {INPUT: item[1][None]}),
        validation_fn=validate,
        max_drop=max_loss,
        drop_type=nncf.DropType.ABSOLUTE,
        **options,
    )


def kept_in_floating_point(model: Any) -> Any:
    """What int8 would spoil and hardly hasten: the attention, and the map with its filters. -> `nncf.IgnoredScope`"""
    nncf = load_module("nncf")
    after_convolutions = with_sources(model.output(MAP).get_node(), is_end=_is_of_network)
    return nncf.IgnoredScope(types=list(KEPT_OPERATIONS), names=sorted(after_convolutions), validate=False)


def _is_of_network(node: Any) -> bool:
    """A trained convolution: the mean that filters a map has one channel."""
    return node.get_type_name() == "Convolution" and node.input_value(1).get_shape()[1] > 1


def _as_run(model: Any) -> RunGraph:
    """A graph to run: NNCF hands it over compiled, but quantised without accuracy control it is not."""
    openvino = load_module("openvino")
    compiled = model
    if isinstance(model, openvino.Model):
        settings = openvino_settings(float_type_here("openvino", "int8"), torch.get_num_threads())
        compiled = openvino.compile_model(model, "CPU", settings)

    return lambda images, name: compiled({INPUT: images})[name]
