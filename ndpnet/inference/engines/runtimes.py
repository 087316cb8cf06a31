"""Opening an exported graph with ONNX Runtime or OpenVINO, on the CPU."""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from ndpnet.inference.engines.engine import RunGraph

INPUT, OUTPUTS = "images", ["anomaly_map", "reconstruction"]
ONNX_GRAPH, OPENVINO_GRAPH, OPENVINO_WEIGHTS = "graph.onnx", "graph.xml", "graph.bin"
GRAPH_FILES = {"onnx": (ONNX_GRAPH,), "openvino": (OPENVINO_GRAPH, OPENVINO_WEIGHTS)}
RUNTIME_MODULES = {"onnx": "onnxruntime", "openvino": "openvino"}


def load_module(name: str) -> ModuleType:
    """Import a package of the extra `export`, without the usage reports that OpenVINO's send when imported."""
    # they fall back to silence where this module cannot be imported: a production line tells nobody what it runs
    sys.modules.setdefault("openvino_telemetry", None)
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(f"{name} is not installed (run `pip install 'ndpnet[export]'`)") from error


def open_graph(engine: str, folder: Path, *, precision: str, image_size: int, num_threads: int) -> RunGraph:
    """Load the graph of an engine's folder. ValueError in one line: the runtime is missing, or refuses the file."""
    runtime = load_module(RUNTIME_MODULES[engine])
    path = folder / GRAPH_FILES[engine][0]
    open_with = _open_onnx if engine == "onnx" else _open_openvino
    try:
        return open_with(runtime, path, precision, image_size, num_threads)
    except Exception as error:  # each runtime raises types of its own
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{RUNTIME_MODULES[engine]} cannot load {path}: {reason} (export the model again)") from error


def _open_onnx(runtime: ModuleType, path: Path, precision: str, image_size: int, num_threads: int) -> RunGraph:
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(OUTPUTS, {INPUT: images})


def _open_openvino(runtime: ModuleType, path: Path, precision: str, image_size: int, num_threads: int) -> RunGraph:
    core = runtime.Core()
    model = core.read_model(path)
    model.reshape([1, image_size, image_size, 3])  # a fixed size is up to 13 % faster
    compiled = core.compile_model(model, "CPU", openvino_settings(precision, num_threads))
    request = compiled.create_infer_request()

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        results = request.infer({INPUT: images})
        return [results[name] for name in OUTPUTS]

    return run


def openvino_settings(precision: str, num_threads: int) -> dict[str, object]:
    """How OpenVINO runs a graph. What int8 leaves unquantised runs in bf16 where the processor has it."""
    return {
        "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
        "INFERENCE_NUM_THREADS": num_threads,
        "NUM_STREAMS": 1,
        "CPU_DENORMALS_OPTIMIZATION": True,
    }
