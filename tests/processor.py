"""What this machine's processor computes, and which engines the shared exports therefore have."""

from ndpnet.inference.engines.runtimes import has_bf16

HAS_BF16 = has_bf16()
EXPORTS = [("onnx", "fp32"), ("openvino", "fp32"), *([("openvino", "bf16")] if HAS_BF16 else [])]
EXPORTED_NAMES = sorted(f"{engine}-{precision}" for engine, precision in EXPORTS)
