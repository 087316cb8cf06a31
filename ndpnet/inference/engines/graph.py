"""The network as one graph, uint8 images in, maps and scores out, written as ONNX."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ndpnet.inference.engines.runtimes import INPUT, OUTPUTS, load_module
from ndpnet.model import Network
from ndpnet.model.folding import fold_batch_norms
from ndpnet.synthesis.compose import to_unit

SCORE = "score"


class ImageGraph(nn.Module):
    """What of an inspection is the same for every image: preprocessing, network, AM_final, its filters, the score.

    has_filters: of whole pictures. Maps of tiles are blended before they are filtered, so their graph ends there.
    """

    def __init__(self, network: Network, *, has_filters: bool, score_pixels: int) -> None:
        super().__init__()
        self.network, self.has_filters, self.score_pixels = network, has_filters, score_pixels

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """uint8 (B, H, W, 3) -> map (B, H, W), reconstruction (B, 3, H, W), with filters also the score (B,)."""
        anomaly_map, reconstruction = self.network.predict(to_unit(images), has_filters=self.has_filters)
        outputs = (anomaly_map[:, 0], reconstruction)  # (B, 1, H, W) -> (B, H, W)
        if not self.has_filters:
            return outputs
        pixels = outputs[0].flatten(1)
        return (*outputs, pixels.topk(min(self.score_pixels, pixels.shape[1]), sorted=False).values.mean(dim=1))


def write_onnx(
    network: Network, path: Path, *, input_size: tuple[int, int], has_filters: bool, score_pixels: int
) -> None:
    """Trace a network on the CPU, in eval mode and with its reference; write it as ONNX for any number of images.

    The same network gives the same bytes; its batch norms are folded. ValueError: a package of the extra is missing.
    """
    load_module("onnxscript")
    onnx = load_module("onnx")
    network = fold_batch_norms(network).to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, *input_size, 3, dtype=torch.uint8)  # a batch of 1 would be taken for a constant
    batch = torch.export.Dim("batch", min=1, max=4096)
    for talkative in ("onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what torch says to its own developers
        program = torch.onnx.export(
            ImageGraph(network, has_filters=has_filters, score_pixels=score_pixels).eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=[INPUT],
            output_names=[*OUTPUTS, SCORE] if has_filters else list(OUTPUTS),
            verbose=False,
        )
    assert program is not None  # it is None of the older exporter alone
    model = program.model_proto
    _forget_origin(model)
    onnx.save(model, path)


def _forget_origin(model: Any) -> None:
    """Drop where in which files torch found each operation: paths of this machine, and other bytes on the next one."""
    graph = model.graph
    values = (*graph.value_info, *graph.initializer, *graph.input, *graph.output)
    for thing in (model, graph, *graph.node, *values):
        del thing.metadata_props[:]
        thing.doc_string = ""
