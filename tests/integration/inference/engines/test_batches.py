"""A picture's score does not depend on the batch that it is in, whatever computes it."""

from pathlib import Path

import numpy as np
import pytest
from samples import Pipeline

from ndpnet.data.fitting import continue_surface
from ndpnet.data.prepared import PreparedData
from ndpnet.inference.engines.engine import OUTPUTS
from ndpnet.inference.engines.runtimes import INPUT, load_module, openvino_settings

SIZES = (2, 3)


@pytest.fixture(scope="module")
def images(pipeline: Pipeline) -> np.ndarray:
    """Good and defective ones. -> uint8 (6, S, S, 3)"""
    prepared = PreparedData.load(pipeline.prepared_dir)
    tested = [continue_surface(image, prepared.input_size) for image in prepared.images("test")]
    chosen = np.array(tested)[[0, -1, 1, -2, 2, -3]]
    assert len(np.unique(chosen, axis=0)) == 6
    return chosen


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_an_exported_graph_takes_batches(exported_dir: Path, images: np.ndarray, engine: str, size: int) -> None:
    """Of itself, with no line of this library around it."""
    folder = exported_dir / "engines" / f"{engine}-fp32"
    if engine == "onnx":
        session = load_module("onnxruntime").InferenceSession(folder / "graph.onnx")

        def run(batch: np.ndarray) -> list[np.ndarray]:
            return session.run([*OUTPUTS, "score"], {INPUT: batch})
    else:
        core = load_module("openvino").Core()
        compiled = core.compile_model(core.read_model(folder / "graph.xml"), "CPU", openvino_settings("fp32", 1))

        def run(batch: np.ndarray) -> list[np.ndarray]:
            results = compiled({INPUT: batch})
            return [results[name].copy() for name in (*OUTPUTS, "score")]

    for start in range(0, len(images), size):
        batch = images[start : start + size]
        for together, alone in zip(run(batch), zip(*(run(image[None]) for image in batch), strict=True), strict=True):
            assert len(together) == size
            np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)
