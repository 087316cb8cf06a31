"""An int8 graph: quantised after training by training images, its accuracy controlled on synthetic validation ones."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ndpnet.inference.engines.engine import RunGraph
from ndpnet.inference.engines.runtimes import INPUT, OUTPUTS, load_module

NUM_CALIBRATION = 128  # training images that the ranges of activations are taken from
# the softmax weights of many reference patches are nearly uniform: eight bits cannot tell them apart
KEPT_OPERATIONS = ("MatMul", "Softmax")


def quantise(
    model: Any,
    training: Sequence[np.ndarray],
    validation: np.ndarray,
    loss_of: Callable[[RunGraph], float],
    *,
    max_loss: float,
) -> Any:
    """Quantise a graph (an `openvino.Model` or an `onnx.ModelProto`), and take back layers that cost too much.

    training: uint8 (N, S, S, 3); validation: uint8 (M, S, S, 3); loss_of: how much worse than torch a graph ranks the
    validation images, at most `max_loss`.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # misses CUDA when nncf is imported
    nncf = load_module("nncf")
    nncf.set_log_level(logging.ERROR)
    rows = np.unique(np.linspace(0, len(training) - 1, NUM_CALIBRATION).round().astype(int))

    def as_dataset(images: Iterable[np.ndarray]) -> Any:
        return nncf.Dataset([np.asarray(image)[None] for image in images], lambda image: {INPUT: image})

    def validate(candidate: Any, _: Iterable[Any]) -> tuple[float, None]:
        return -loss_of(_as_run(candidate)), None

    return nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=as_dataset(training[row] for row in rows),
        validation_dataset=as_dataset(validation),
        validation_fn=validate,
        max_drop=max_loss,
        drop_type=nncf.DropType.ABSOLUTE,
        subset_size=len(rows),
        ignored_scope=nncf.IgnoredScope(types=list(KEPT_OPERATIONS), validate=False),
    )


def _as_run(model: Any) -> RunGraph:
    """What NNCF hands over to be judged: a compiled OpenVINO model, or an `onnx.ModelProto`."""
    if hasattr(model, "SerializeToString"):
        session = load_module("onnxruntime").InferenceSession(model.SerializeToString())
        return lambda images: session.run(OUTPUTS, {INPUT: images})

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        results = model({INPUT: images})
        return [results[name] for name in OUTPUTS]

    return run
