"""What computes the network: torch, or a graph that `ndpnet export` made for another runtime."""

# the precisions of each, the finest first;
# int8 with ONNX Runtime takes 0.95 of the time of its fp32 on a CPU with VNNI: not worth another numeric
ENGINES = {"torch": ("fp32",), "onnx": ("fp32",), "openvino": ("fp32", "bf16", "int8")}
ENGINES_DIR = "engines"  # of a model package: one folder for each engine and precision


def engine_name(engine: str, precision: str) -> str:
    """Name of an engine at a precision, and of its folder. ValueError: there is no such combination."""
    if engine not in ENGINES:
        raise ValueError(f"no engine {engine!r} (one of {', '.join(ENGINES)})")
    if precision not in ENGINES[engine]:
        raise ValueError(f"no precision {precision!r} with engine {engine} (one of {', '.join(ENGINES[engine])})")
    return f"{engine}-{precision}"
