"""The report's tables: the paper's II to VI and Fig. 11 beside what was measured here, and every method's cost."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from scipy import stats

from ndpnet.benchmark.suites import ALL, Suite
from ndpnet.benchmark.variants import FULL, Variant

METRICS = {"image_auroc": "image ROCAUC", "pixel_auroc": "pixel ROCAUC", "pro_auc": "PROAUC"}
RATES = {"recall": "defects found", "false_alarm_rate": "false alarms"}
NA = "n/a"
NUM_SD = 2  # a difference beyond so many standard deviations over seeds is flagged


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str

    def to_markdown(self) -> str:
        """As GitHub shows it."""
        lines = [_line(cells) for cells in (self.head, ["---"] * len(self.head), *self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, "", self.note, ""])


@dataclass(frozen=True)
class Measured:
    """One row with what came out; None where it failed."""

    method: str
    category: str
    seed: int
    variant: Variant | None  # None: another model
    scores: Mapping[str, Mapping[str, Any]] | None  # subset -> metrics
    train_seconds: float | None
    timing: Mapping[str, float] | None


@cache
def paper() -> dict[str, Any]:
    """The figures of the paper, in %, with their source."""
    return json.loads(Path(__file__).with_name("paper_tables.json").read_text(encoding="utf-8"))


def make_tables(suite: Suite, measured: Sequence[Measured]) -> list[Table]:
    """Every table that this suite and these rows have something to say in."""
    tables = [_result_table(subset, measured) for subset in suite.subsets]
    tables += [_paper_table(name, measured) for name in suite.paper_tables]
    if len(_methods(measured)) > 1:
        tables += [_comparison_table(subset, measured) for subset in suite.subsets]
    return [*tables, _cost_table(measured)]


def mean_and_spread(values: Iterable[float]) -> str:
    """Mean and, of several seeds, their standard deviation, in %."""
    values = list(values)
    if not values:
        return NA
    mean = f"{100 * statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


def mean_and_interval(changes: Sequence[float]) -> str:
    """Mean of paired differences in points and, of several seeds, its 95 % interval by Student's t."""
    if not changes:
        return ""
    mean = 100 * statistics.mean(changes)
    if len(changes) == 1:
        return f"{mean:+.2f}"
    half = 100 * stats.t.ppf(0.975, len(changes) - 1) * statistics.stdev(changes) / len(changes) ** 0.5
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


def by_seed(
    measured: Iterable[Measured], method: str, subset: str, metric: str, category: str | None = None
) -> dict[int, float]:
    """Seed -> value; without a category each seed's mean over the categories, if all of them have one."""
    values_of: dict[int, list[float | None]] = {}
    for row in measured:
        if row.method == method and category in (None, row.category):
            value = row.scores.get(subset, {}).get(metric) if row.scores else None
            values_of.setdefault(row.seed, []).append(value)
    return {seed: statistics.mean(values) for seed, values in values_of.items() if None not in values}


def _result_table(subset: str, measured: Sequence[Measured]) -> Table:
    categories: list[str | None] = list(dict.fromkeys(row.category for row in measured))
    if len(categories) > 1:
        categories.append(None)
    rows = []
    for method in _methods(measured):
        for category in categories:
            values = (by_seed(measured, method, subset, metric, category).values() for metric in METRICS | RATES)
            rows.append([method, category or "mean", *map(mean_and_spread, values)])
    counts = {row.category: row.scores[subset] for row in measured if row.scores and subset in row.scores}
    texts = [f"{name}: {count['num_good']} good, {count['num_defective']} defective" for name, count in counts.items()]
    seeds = sorted({row.seed for row in measured})
    spread = (
        f"One seed ({seeds[0]}): no spread is known." if len(seeds) == 1 else f"Seeds {', '.join(map(str, seeds))}."
    )
    note = f"{'; '.join(texts)}. {spread} In %; ± standard deviation over seeds."
    return Table(f"Results: {subset}", ["method", "category", *(METRICS | RATES).values()], rows, note)


def _paper_table(name: str, measured: Sequence[Measured]) -> Table:
    table = paper()["tables"][name]
    theirs, here = table["percent"], {row.category for row in measured}
    categories = [category for category in next(iter(theirs.values())) if category in here]
    rows = []
    for category in [*categories, None]:
        chosen = [category] if category else categories
        published = [statistics.mean(row[one] for one in chosen) for row in theirs.values()]
        values = list(by_seed(measured, FULL.name, ALL, table["metric"], category).values())
        cells = [f"{value:.2f}" for value in published]
        rows.append([category or "mean", *cells, mean_and_spread(values), _difference(values, published[-1])])
    note = (
        f"{paper()['source']}. Means are ours, over the categories shown: some that the paper prints differ. "
        f"Difference: to the paper's NDP-Net; * beyond {NUM_SD} standard deviations over seeds, ? one seed, no spread."
    )
    return Table(f"Table {name}: {table['title']}", ["", *theirs, "NDP-Net here", "difference"], rows, note)


def _difference(values: Sequence[float], published: float) -> str:
    if not values:
        return NA
    difference = 100 * statistics.mean(values) - published
    if len(values) == 1:
        return f"{difference:+.2f} ?"
    is_outside = abs(difference) > NUM_SD * 100 * statistics.stdev(values)
    return f"{difference:+.2f}{' *' if is_outside else ''}"


def _comparison_table(subset: str, measured: Sequence[Measured]) -> Table:
    full = {metric: by_seed(measured, FULL.name, subset, metric) for metric in METRICS}
    variants = {row.method: row.variant for row in measured}
    rows = []
    for method in _methods(measured):
        cells = []
        for metric in METRICS:
            values = by_seed(measured, method, subset, metric)
            paired = [value - full[metric][seed] for seed, value in values.items() if seed in full[metric]]
            cells += [mean_and_spread(values.values()), "" if method == FULL.name else mean_and_interval(paired)]
        drops = variants[method].paper_drop if variants[method] else None
        rows.append([method, *cells, "" if drops is None else f"{-drops[0]:+.2f} / {-drops[1]:+.2f}"])
    head = ["", *(text for label in METRICS.values() for text in (label, "change")), "paper, wood: image / pixel"]
    note = (
        "In %, means over categories; change in points to NDP-Net with the same seeds, its 95 % interval over them. "
        "Pixel gap, MSFR and SSIM are other maps from the same trained model; what leaves out a part or changes a "
        "parameter is trained anew."
    )
    return Table(f"Table VI, against NDP-Net: {subset}", head, rows, note)


def _cost_table(measured: Sequence[Measured]) -> Table:
    rows = []
    for method in _methods(measured):
        of_method = [row for row in measured if row.method == method]
        seconds = [row.train_seconds for row in of_method]
        timings = [row.timing or {} for row in of_method]
        cells = [
            _mean(seconds, 0),
            *(_mean(timing.get(name) for timing in timings) for name in ("milliseconds", "gmac")),
        ]
        rows.append([method, *cells])
    note = (
        "One image, one thread of this machine. The paper's Fig. 11: "
        f"{paper()['inference_ms']} (unit not given; ms on a V100 by our reading)."
    )
    return Table("Cost (Fig. 11)", ["method", "training, s", "ms an image", "GMAC an image"], rows, note)


def _mean(values: Iterable[float | None], digits: int = 1) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.{digits}f}" if known else NA


def _methods(measured: Iterable[Measured]) -> list[str]:
    return list(dict.fromkeys(row.method for row in measured))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
