"""The report's curves: charts as inline SVG, whose bytes are a function of the data, and tables as CSV."""

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from scipy import ndimage

from ndpnet.data.arrays import spread_rows
from ndpnet.files import write_text
from ndpnet.metrics.exact import MAX_FPR
from ndpnet.metrics.summary import HEADLINE

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# Colours are CSS variables of the page (dark mode, print); matplotlib draws with stand-ins replaced afterwards.
VARIABLES = ("ink", "muted", "line", "good", "defective", "mark", "series-3", "series-4", "series-5")
INK, MUTED, GRID, GOOD, DEFECTIVE, MARK, *OTHERS = STAND_INS = [f"#0101{n:02x}" for n in range(len(VARIABLES))]
SERIES = (INK, GOOD, DEFECTIVE, *OTHERS)
STYLE: "dict[RcKeyType, str | float | bool]" = {
    "svg.fonttype": "none",
    "font.size": 8.0,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelpad": 9.0,  # a telephone shows numbers larger than they are laid out
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
MAX_POINTS = 400
NOT_LOSSES = {"step", "lr"}
VALIDATION_PREFIX = "validation/"
TABLE_AXES = {"roc": ("fpr", "tpr"), "pro": ("fpr", "overlap")}

Curve = tuple[np.ndarray, np.ndarray]
History = Sequence[Mapping[str, float]]


def roc_chart(curve: Curve, *, operating_point: tuple[float, float] | None) -> str:
    """Share of defects found against the false-alarm rate; (fpr, tpr), each (P,), and the threshold's point -> SVG."""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = _figure(width=4.8, height=3.5)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        axes.text(0.62, 0.55, "guessing", color=MUTED, rotation=33)
        axes.plot(*curve, color=GOOD, clip_on=False, zorder=3)
        if operating_point is not None:
            axes.plot(*operating_point, "o", color=MARK, markersize=5, clip_on=False, zorder=4)
            axes.annotate("at the threshold", operating_point, (10, -12), textcoords="offset points", color=MARK)
        _percent_axes(axes, x_label="good images flagged", y_label="defective images flagged")
        return _svg(figure, name="roc")


def pro_chart(curve: Curve) -> str:
    """Mean share of each defect covered against the sound area marked, to MAX_FPR; (fpr, overlap), each (P,) -> SVG."""
    with matplotlib.rc_context(STYLE):
        figure, (axes,) = _figure(width=4.8, height=3.5)
        axes.fill_between(*curve, color=GOOD, alpha=0.15, linewidth=0)
        axes.plot(*curve, color=GOOD, clip_on=False, zorder=3)
        _percent_axes(axes, x_label="sound surface marked", y_label="mean share of a defect covered")
        axes.set_xlim(0, MAX_FPR)
        return _svg(figure, name="pro")


def score_chart(scores: np.ndarray, labels: np.ndarray, *, threshold: float | None, is_narrow: bool = False) -> str:
    """Histograms of the scores of good and defective images, with the threshold; float (N,), bool (N,) -> SVG.

    is_narrow: for a telephone.
    """
    with matplotlib.rc_context(STYLE):
        figure, rows = _figure(width=4.8 if is_narrow else 9.2, height=4.4 if is_narrow else 3.4, rows=2)
        bins = score_bins(scores, threshold=threshold, num_bins=24 if is_narrow else 50)
        for axes, is_defective, name, colour in zip(
            rows, (False, True), ("good", "defective"), (GOOD, DEFECTIVE), strict=True
        ):
            chosen = scores[labels == is_defective]
            axes.hist(chosen, bins=bins.tolist(), color=colour, alpha=0.85)
            axes.set_title(f"{len(chosen)} {name}", loc="left", color=colour)
            axes.set_ylim(0, max(axes.get_ylim()[1], 1.0))
            axes.set_ylabel("images")
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            if threshold is not None:
                axes.axvline(threshold, color=MARK, linewidth=1.4)
        if threshold is not None:
            rows[0].annotate(
                f"threshold {threshold:.4g}", (threshold, 1), (4, 2), xycoords=("data", "axes fraction"),
                textcoords="offset points", color=MARK,
            )  # fmt: skip
        rows[0].tick_params(labelbottom=False)
        rows[1].set_xlabel("score of the image (higher: more defective)")
        return _svg(figure, name="scores-narrow" if is_narrow else "scores")


def score_bins(scores: np.ndarray, *, threshold: float | None, num_bins: int = 50) -> np.ndarray:
    """Bin edges over all scores, the threshold one of them: no bar straddles it. (N,) -> (num_bins + 1 to 3,)."""
    if threshold is None:
        return np.histogram_bin_edges(scores, bins=num_bins)
    low, high = min(scores.min(initial=threshold), threshold), max(scores.max(initial=threshold), threshold)
    width = (high - low) / num_bins or 1.0
    # bins include their left edge, and a score equal to the threshold belongs below it
    edge = np.nextafter(threshold, math.inf)
    below, above = max(1, math.ceil((edge - low) / width)), max(1, math.ceil((high - edge) / width))
    return edge + width * np.arange(-below, above + 1)


def loss_chart(history: History, *, name: str) -> str:
    """Smoothed losses on a log axis, validation figures below if any; rows {"step", term: value} -> SVG."""
    losses, validation = loss_series(history)
    with matplotlib.rc_context(STYLE):
        num_rows = 2 if validation else 1
        figure, rows = _figure(width=4.8, height=1.9 + 1.5 * num_rows, rows=num_rows, tall_first=True)
        for colour, (term, (steps, values)) in zip(SERIES, losses.items(), strict=False):
            width = 2.0 if term == "loss" else 1.2
            rows[0].plot(*thin((steps, values)), color=colour, alpha=0.18, linewidth=0.7)
            rows[0].plot(*thin((steps, smooth(values))), color=colour, linewidth=width, label=term.replace("_", " "))
        rows[0].set_yscale("log")
        rows[0].yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=8))
        rows[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        rows[0].yaxis.set_minor_formatter(NullFormatter())
        rows[0].set_ylabel("loss (log scale)")
        rows[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handlelength=1.2, columnspacing=4)
        for colour, (term, (steps, values)) in zip(SERIES[1:], validation.items(), strict=False):
            metric = term.removeprefix(VALIDATION_PREFIX)
            label = HEADLINE.get(metric, metric.replace("_", " "))
            rows[1].plot(steps, values, color=colour, marker="o", markersize=2.5, label=label)
        if validation:
            rows[1].set_title("on held-out pictures", loc="left")
            rows[1].legend(loc="center left", handlelength=1.2)
        rows[-1].set_xlabel("training step")
        return _svg(figure, name=name)


def loss_series(history: History) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Split a history into losses (positive values) and validation figures, "loss" first; term -> (steps, values)."""
    terms = dict.fromkeys(["loss"] + [term for row in history for term in row])
    curves = {term: _series(history, term) for term in terms if term not in NOT_LOSSES}
    losses = {term: curve for term, curve in curves.items() if not term.startswith(VALIDATION_PREFIX)}
    positive = {term: (steps[values > 0], values[values > 0]) for term, (steps, values) in losses.items()}
    return (
        {term: curve for term, curve in positive.items() if len(curve[0])},
        {term: curve for term, curve in curves.items() if term not in losses and len(curve[0])},
    )


def smooth(values: np.ndarray) -> np.ndarray:
    """Gaussian mean of the logarithms (the axis is one) over about a fiftieth of the run; positive (P,) -> (P,)."""
    return np.exp(ndimage.gaussian_filter1d(np.log(values), sigma=max(len(values) / 50, 0.5), mode="nearest"))


def thin(curve: Curve) -> Curve:
    """At most MAX_POINTS points, evenly spread by their number, both ends kept. x, y: (P,)."""
    x, y = np.asarray(curve[0], dtype=np.float64), np.asarray(curve[1], dtype=np.float64)
    rows = spread_rows(len(x), MAX_POINTS)
    return x[rows], y[rows]


def write_curves(folder: Path, curves: Mapping[str, Curve | None], histories: Mapping[str, History]) -> None:
    """Write roc.csv, pro.csv and loss_PHASE.csv for every history, the losses as smooth as the report draws them.

    A curve that is not available is a table without rows: the files are always the same ones.
    """
    for name, axes in TABLE_AXES.items():
        curve = curves[name]
        points = [] if curve is None else zip(*(axis.tolist() for axis in curve), strict=True)
        _write_table(folder / f"{name}.csv", axes, [dict(zip(axes, point, strict=True)) for point in points])
    for phase, history in histories.items():
        terms, rows = _loss_rows(history)
        _write_table(folder / f"loss_{phase}.csv", ("step", *terms), rows)


def _series(history: History, term: str) -> Curve:
    points = [(row["step"], row[term]) for row in history if term in row]
    steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
    return steps, values


def _figure(*, width: float, height: float, rows: int = 1, tall_first: bool = False) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = [2.2] + [1.0] * (rows - 1) if tall_first else [1.0] * rows
    axes = figure.subplots(rows, 1, sharex=rows > 1, squeeze=False, height_ratios=ratios)
    return figure, list(axes[:, 0])


def _percent_axes(axes: Axes, *, x_label: str, y_label: str) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def _svg(figure: Figure, *, name: str) -> str:
    buffer = io.StringIO()
    # no date, no creator: the bytes depend on the data only, and no foreign address stands in the file
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    root, body = text[text.index("<svg") :].split(">", 1)
    root = re.sub(r'\s(xmlns(:\w+)?|width|height|version)="[^"]*"', "", root)  # the page sets the size
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>|font-family: [^;]*; ", "", body, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", f"{root}>{body}")  # ids must differ in one page
    for stand_in, variable in zip(STAND_INS, VARIABLES, strict=True):
        text = text.replace(stand_in, f"var(--{variable})")
    return text.strip()


def _loss_rows(history: History) -> tuple[list[str], list[dict[str, float]]]:
    losses, _ = loss_series(history)
    by_step: dict[float, dict[str, float]] = {}
    for term, (steps, values) in losses.items():
        kept_steps, kept_values = thin((steps, smooth(values)))
        for step, value in zip(kept_steps.tolist(), kept_values.tolist(), strict=True):
            by_step.setdefault(step, {"step": int(step)})[term] = value
    return list(losses) or ["loss"], [by_step[step] for step in sorted(by_step)]


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
