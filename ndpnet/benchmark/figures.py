"""Figures like the paper's 9, 10, 12 and 15: rows of input, truth, reconstruction and map, of fixed examples."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ndpnet.benchmark.scoring import open_scored
from ndpnet.benchmark.variants import OWN
from ndpnet.data.manifest import GOOD
from ndpnet.data.prepared import PreparedData
from ndpnet.inference.inspector import Inspector, Prediction
from ndpnet.inference.overlay import HEAT_COLOURS

INCHES, DPI = 1.35, 110


@dataclass(frozen=True)
class Column:
    """One example."""

    title: str
    image: np.ndarray  # uint8 (S, S, 3)
    truth: np.ndarray | None  # uint8 (S, S)
    predictions: dict[str, Prediction]  # scoring -> what it says


def draw_figure(
    prepared_dir: Path, model_dir: Path, *, scorings: Sequence[str] = (OWN,), num_examples: int = 8
) -> bytes | None:
    """Examples of every defect type and a good one, chosen by their place in the list, not by how well they came out.

    One row of maps per scoring, each on a colour scale of its own. -> PNG; None of scans, which have no one size, and
    without test images.
    """
    prepared, inspector = PreparedData.load(prepared_dir), Inspector.load(model_dir)
    if prepared.tiling is not None or not prepared.records("test"):
        return None
    records, masks = prepared.records("test"), prepared.masks()
    views = {scoring: open_scored(inspector, scoring) for scoring in scorings}
    columns = []
    for row in choose_rows([record.defect_type for record in records], num_examples):
        image = np.asarray(prepared.images("test")[row])
        predictions = {scoring: view.predict(image, name=records[row].path) for scoring, view in views.items()}
        truth = None if masks is None else np.asarray(masks[row])
        columns.append(Column(f"{records[row].defect_type}\n{Path(records[row].path).stem}", image, truth, predictions))
    return _draw(columns, scorings)


def choose_rows(defect_types: Sequence[str], num_examples: int) -> list[int]:
    """Rows of the test set: types in turn, a good image last; of each type the images evenly from first to last."""
    rows_of: dict[str, list[int]] = {}
    for row, defect_type in enumerate(defect_types):
        rows_of.setdefault(defect_type, []).append(row)
    good = rows_of.pop(GOOD, [])
    num_defective = num_examples - bool(good)
    kinds = sorted(rows_of)
    shares = [len(range(place, num_defective, len(kinds))) for place in range(len(kinds))]
    chosen = []
    for kind, share in zip(kinds, shares, strict=True):
        rows = rows_of[kind]
        chosen += [rows[index * len(rows) // share] for index in range(min(share, len(rows)))]
    return chosen + good[len(good) // 2 : len(good) // 2 + 1]


def _draw(columns: Sequence[Column], scorings: Sequence[str]) -> bytes:
    labels = ["input", "truth", "reconstruction", *(f"map ({name})" for name in scorings)]
    figure = Figure(figsize=(INCHES * len(columns) + 0.9, INCHES * len(labels) + 0.5), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(labels), len(columns), squeeze=False)
    tops = {name: max(column.predictions[name].anomaly_map.max() for column in columns) for name in scorings}
    with matplotlib.rc_context({"font.size": 7}):
        for axes_column, column in zip(grid.T, columns, strict=True):
            axes_column[0].set_title(column.title, fontsize=6)
            axes_column[0].imshow(column.image)
            if column.truth is not None:
                axes_column[1].imshow(column.truth, cmap="gray", vmin=0, vmax=1)
            axes_column[2].imshow(next(iter(column.predictions.values())).reconstruction)
            for axes, name in zip(axes_column[3:], scorings, strict=True):
                prediction = column.predictions[name]
                axes.imshow(prediction.anomaly_map, cmap=HEAT_COLOURS, vmin=0, vmax=tops[name] or 1)
                axes.set_xlabel(f"{prediction.score:.3g}", fontsize=6, labelpad=1)
        for axes_row, label in zip(grid, labels, strict=True):
            axes_row[0].set_ylabel(label, fontsize=7)
        for axes in grid.flat:
            axes.set_xticks([])
            axes.set_yticks([])
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
