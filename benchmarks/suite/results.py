"""Scores of one trained model, or of another method's raw maps, by the same metrics; and how long an image takes."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ndpnet.benchmark.peers import PREDICTIONS
from ndpnet.benchmark.scoring import open_scored
from ndpnet.benchmark.suites import Suite
from ndpnet.benchmark.variants import OWN
from ndpnet.data.manifest import GOOD, FileRecord
from ndpnet.data.prepared import PreparedData
from ndpnet.evaluation.judging import check_inputs, judge
from ndpnet.inference.inspector import Inspector
from ndpnet.inference.package import read_package
from ndpnet.inference.speed import time_engine
from ndpnet.metrics import exact
from ndpnet.model.segmentation import filter_map
from ndpnet.synthesis.compose import to_unit

SECONDS_TO_TIME = 3.0

Result = dict[str, Any]


def score_model(prepared_dir: Path, model_dir: Path, suite: Suite, *, scoring: str) -> Result:
    """Judge the test images of every subset. -> subset -> metrics, None where they are n/a."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prepared, inspector = PreparedData.load(prepared_dir), Inspector.load(model_dir, device=device)
    check_inputs(prepared, inspector.package)
    judged = judge(prepared, open_scored(inspector, scoring), max_exact_pixels=sys.maxsize)  # tables are exact
    threshold = inspector.threshold if scoring == OWN else None
    return _by_subset(
        suite, judged.records, judged.scores, judged.maps, judged.masks, roi=judged.roi, threshold=threshold
    )


def score_peer(prepared_dir: Path, peer_dir: Path, suite: Suite, *, with_filters: bool) -> Result:
    """Judge another method's raw maps, of each what its picture covers.

    With filters NDP-Net's mean and median, and the map's maximum as score.
    """
    prepared = PreparedData.load(prepared_dir)
    with np.load(peer_dir / PREDICTIONS) as arrays:
        scores, maps = arrays["scores"], arrays["maps"]
    if with_filters:
        maps = filter_map(torch.from_numpy(maps)[:, None])[:, 0].numpy()
    shapes = [image.shape for image in prepared.images("test")]
    maps = [plane[:height, :width] for plane, (height, width, _) in zip(maps, shapes, strict=True)]
    if with_filters:
        scores = np.array([plane.max() for plane in maps], dtype=np.float64)
    return _by_subset(suite, prepared.records("test"), scores, maps, prepared.masks())


def time_model(model_dir: Path) -> Result:
    """Milliseconds of one image on one thread (median), and multiply-accumulates in billions."""
    timing = time_engine(model_dir, "torch-fp32", SECONDS_TO_TIME, 1)
    package = read_package(model_dir)
    image = to_unit(torch.from_numpy(package.references()[:1]))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        package.load_network(torch.device("cpu")).mark(image)
    return {"milliseconds": timing["p50 ms"], "gmac": counter.get_total_flops() / 2e9}


def _by_subset(
    suite: Suite,
    records: list[FileRecord],
    scores: np.ndarray,
    maps: exact.Planes,
    masks: exact.Planes | None,
    *,
    roi: np.ndarray | None = None,
    threshold: float | None = None,
) -> Result:
    result = {}
    for name, is_in in suite.subsets.items():
        rows = np.array([is_in(record.group) for record in records])
        if not rows.any():
            continue
        labels = np.array([record.defect_type != GOOD for record in records])[rows]
        pixels = (None, None)
        if masks is not None:
            chosen = (exact.take_planes(planes, rows) for planes in (maps, masks))
            pixels = exact.pixel_metrics(*chosen, roi=roi) or pixels
        calls = None if threshold is None else scores[rows] > threshold
        result[name] = {
            "image_auroc": exact.image_auroc(scores[rows], labels),
            "pixel_auroc": pixels[0],
            "pro_auc": pixels[1],
            "recall": _share(calls, labels),
            "false_alarm_rate": _share(calls, ~labels),
            "num_good": int((~labels).sum()),
            "num_defective": int(labels.sum()),
        }
    return result


def _share(calls: np.ndarray | None, rows: np.ndarray) -> float | None:
    """Of images that are called defective. bool (N,) each; None without a threshold, or such images."""
    return None if calls is None or not rows.any() else float(calls[rows].mean())
