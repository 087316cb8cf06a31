"""What of a graph stays in fp32 where the rest is computed in bf16, because the whole picture depends on its digits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ndpnet.inference.engines.runtimes import load_module

CONVOLUTIONS = ("Convolution", "GroupConvolution")
FEW_CHANNELS = 32  # at half the picture's size: little work, and a faint texture on a bright picture
FEW_NUMBERS = 8  # of colours and shades, whose nearest ones lie close


def save_graph(model: Any, path: Path, *, is_rounded: bool = False) -> None:
    """Store an `openvino.Model`. is_rounded: for bf16, with OpenVINO's own mark at what is not, which no call sets."""
    load_module("openvino").save_model(model, path, compress_to_fp16=False)
    if not is_rounded:
        return
    names, tree = exact_operations(model), ElementTree.parse(path)
    for layer in tree.iterfind("layers/layer"):
        if layer.get("name") in names and layer.get("type") not in ("Const", "Parameter"):
            notes = layer.find("rt_info")
            if notes is None:
                notes = ElementTree.Element("rt_info")
                layer.insert(int(layer.find("data") is not None), notes)
            ElementTree.SubElement(notes, "attribute", name="precise", version="0")
    tree.write(path)


def exact_operations(model: Any) -> set[str]:
    """Names of the convolutions at half the picture's size or more that write few channels, of all before them, and of
    products of few numbers. model: an `openvino.Model` whose input is (B, H, W, 3).
    """
    names: set[str] = set()
    least = _length(model.input(0).get_partial_shape()[1]) // 2
    for node in model.get_ordered_ops():
        if node.get_type_name() in CONVOLUTIONS:
            channels, height = (_length(node.get_output_partial_shape(0)[axis]) for axis in (1, 2))
            if channels <= FEW_CHANNELS and height >= least:
                names |= with_sources(node)
        elif node.get_type_name() == "MatMul" and 0 < _length(node.get_input_partial_shape(0)[-1]) < FEW_NUMBERS:
            names.add(node.get_friendly_name())
    return names


def with_sources(node: Any, *, is_end: Callable[[Any], bool] = lambda node: False) -> set[str]:
    """Names of an operation and of all before it, without those that are an end, and what is before these."""
    names: set[str] = set()
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if not is_end(node) and node.get_friendly_name() not in names:
            names.add(node.get_friendly_name())
            waiting += [value.get_source_output().get_node() for value in node.inputs()]
    return names


def _length(dimension: Any) -> int:
    """Of a dimension of a shape; 0 of one that is not known."""
    return dimension.get_length() if dimension.is_static else 0
