"""Opening an exported graph with ONNX Runtime or OpenVINO, on the CPU."""

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

OUTPUTS = MAP, RECONSTRUCTION = "anomaly_map", "reconstruction"  # of a graph
RunGraph = Callable[[np.ndarray, str], np.ndarray]  # uint8 (1, H, W, 3) and the name of an output -> that output

INPUT = "images"
ONNX_GRAPH, OPENVINO_GRAPH, OPENVINO_WEIGHTS = "graph.onnx", "graph.xml", "graph.bin"
GRAPH_FILES = {"onnx": (ONNX_GRAPH,), "openvino": (OPENVINO_GRAPH, OPENVINO_WEIGHTS)}
RUNTIME_MODULES = {"onnx": "onnxruntime", "openvino": "openvino"}
OPENVINO_TYPES = {"fp32": "f32", "bf16": "bf16"}


def load_module(name: str) -> ModuleType:
    """Import a package of the extra `export`, without the usage reports that OpenVINO's send when imported."""
    # they fall back to silence where this module cannot be imported: a production line tells nobody what it runs
    cast(dict[str, ModuleType | None], sys.modules).setdefault("openvino_telemetry", None)
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(f"{name} is not installed (run `pip install 'ndpnet[export]'`)") from error


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this processor; where it does not it takes fp32, and does not say so."""
    return "BF16" in load_module("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def float_type_here(engine: str, precision: str) -> str:
    """What an engine computes in here, fp32 or bf16; of int8, what is not quantised. ValueError: it cannot."""
    if engine == "onnx" or precision == "fp32":
        return "fp32"
    if has_bf16():
        return "bf16"
    if precision == "bf16":
        raise ValueError("this processor has no bf16 (export on the kind that will run the model, or use fp32)")
    return "fp32"


def open_graph(
    engine: str, folder: Path, *, float_type: str, input_size: tuple[int, int], num_threads: int
) -> RunGraph:
    """Load the graph of an engine's folder. ValueError in one line: the runtime is missing, or refuses the file.

    float_type: what it was checked in, and must compute in here: fp32 or bf16.
    """
    runtime = load_module(RUNTIME_MODULES[engine])
    if float_type == "bf16" and not has_bf16():
        raise ValueError(
            f"{folder} was checked in bf16, which this processor does not have (export it on the kind that will run "
            "it, or use fp32)"
        )
    path = folder / GRAPH_FILES[engine][0]
    open_with = _open_onnx if engine == "onnx" else _open_openvino
    try:
        return open_with(runtime, path, float_type, input_size, num_threads)
    except Exception as error:  # each runtime raises types of its own
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{RUNTIME_MODULES[engine]} cannot load {path}: {reason} (export the model again)") from error


def _open_onnx(
    runtime: ModuleType, path: Path, float_type: str, input_size: tuple[int, int], num_threads: int
) -> RunGraph:
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    run_options = runtime.RunOptions()
    run_options.only_execute_path_to_fetches = True
    return lambda images, name: session.run([name], {INPUT: images}, run_options)[0]


def _open_openvino(
    runtime: ModuleType, path: Path, float_type: str, input_size: tuple[int, int], num_threads: int
) -> RunGraph:
    core = runtime.Core()
    model = core.read_model(path)
    model.reshape([1, *input_size, 3])  # a fixed size is up to 13 % faster
    settings = openvino_settings(float_type, num_threads)

    @cache
    def request(name: str) -> Any:
        part = runtime.Model([model.output(name)], model.get_parameters(), name)  # what that output needs alone
        return core.compile_model(part, "CPU", settings).create_infer_request()

    request(MAP)  # whether it can be is said now
    return lambda images, name: request(name).infer({INPUT: images})[0]


def openvino_settings(float_type: str, num_threads: int) -> dict[str, object]:
    """How OpenVINO runs a graph."""
    return {
        "INFERENCE_PRECISION_HINT": OPENVINO_TYPES[float_type],
        "INFERENCE_NUM_THREADS": num_threads,
        "NUM_STREAMS": 1,
        "CPU_DENORMALS_OPTIMIZATION": True,
    }


class GraphEngine:
    """An exported graph; its export chose whether the maps are filtered."""

    def __init__(self, run: RunGraph) -> None:
        self.run = run

    def predict(self, images: np.ndarray) -> np.ndarray:
        """As `TorchEngine`, of one image."""
        return self.run(images, MAP)

    def rebuild(self, images: np.ndarray) -> np.ndarray:
        """As `TorchEngine`, of one image."""
        return self.run(images, RECONSTRUCTION)
