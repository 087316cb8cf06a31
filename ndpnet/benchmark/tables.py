"""The report's tables: the paper's II to VI and Fig. 11 beside what was measured here, and every method's cost."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ndpnet.benchmark.suites import ALL, Suite
from ndpnet.benchmark.tasks import Cell
from ndpnet.benchmark.variants import FULL

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
    notes: Sequence[str] = ()

    def to_markdown(self) -> str:
        """As GitHub shows it."""
        lines = [f"### {self.title}", "", _line(self.head), _line(["---"] * len(self.head))]
        return "\n".join([*lines, *(_line(row) for row in self.rows), *("\n" + note for note in self.notes), ""])


@dataclass(frozen=True)
class Measured:
    """One cell of the plan with what came out; None where it failed."""

    cell: Cell
    scores: Mapping[str, Mapping[str, Any]] | None  # subset -> metrics
    train_seconds: float | None
    timing: Mapping[str, float] | None


@cache
def paper() -> dict[str, Any]:
    """The figures of the paper, in %, with their source."""
    return json.loads(files("ndpnet.benchmark").joinpath("paper_tables.json").read_text(encoding="utf-8"))


def make_tables(suite: Suite, measured: Sequence[Measured]) -> list[Table]:
    """Every table that this suite and these cells have something to say in."""
    tables = [_result_table(subset, measured) for subset in suite.subsets]
    tables += [_paper_table(name, measured) for name in suite.paper_tables]
    if len({each.cell.method for each in measured if each.cell.variant}) > 1:
        tables += [_ablation_table(subset, measured) for subset in suite.subsets]
    return [*tables, _cost_table(measured)]


def mean_and_spread(values: Sequence[float], *, factor: float = 100) -> str:
    """Mean and, of several seeds, their standard deviation."""
    if not values:
        return NA
    mean = f"{factor * statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {factor * statistics.stdev(values):.2f}"


def values_of(
    measured: Iterable[Measured], method: str, subset: str, metric: str, category: str | None = None
) -> list[float]:
    """One value per seed, as `by_seed`."""
    return list(by_seed(measured, method, subset, metric, category).values())


def by_seed(
    measured: Iterable[Measured], method: str, subset: str, metric: str, category: str | None = None
) -> dict[int, float]:
    """Seed -> value; without a category each seed's mean over the categories, if all of them have one."""
    found: dict[int, list[float | None]] = {}
    for each in measured:
        if each.cell.method == method and category in (None, each.cell.category):
            value = each.scores.get(subset, {}).get(metric) if each.scores else None
            found.setdefault(each.cell.seed, []).append(value)
    return {seed: statistics.mean(values) for seed, values in found.items() if None not in values}


def _result_table(subset: str, measured: Sequence[Measured]) -> Table:
    columns = METRICS | RATES
    rows = []
    for method, category in _rows_of(measured):
        cells = [mean_and_spread(values_of(measured, method, subset, metric, category)) for metric in columns]
        rows.append([method, category or "mean", *cells])
    seeds = sorted({each.cell.seed for each in measured})
    notes = [f"{_count(measured, subset)} {_seeds(seeds)} In %; ± standard deviation over seeds."]
    return Table(f"Results: {subset}", ["method", "category", *columns.values()], rows, notes)


def _paper_table(name: str, measured: Sequence[Measured]) -> Table:
    table = paper()["tables"][name]
    theirs, metric, here = table["percent"], table["metric"], "NDP-Net here"
    ours = [each for each in measured if each.cell.method == FULL.name]
    categories = [each for each in next(iter(theirs.values())) if each in {one.cell.category for one in ours}]
    rows = []
    for category in [*categories, None]:
        published = [statistics.mean(row[each] for each in ([category] if category else categories))
                     for row in theirs.values()]  # fmt: skip
        values = values_of(ours, FULL.name, ALL, metric, category)
        difference = _difference(values, published[-1])
        cells = [f"{value:.2f}" for value in published]
        rows.append([category or "mean", *cells, mean_and_spread(values), difference])
    notes = [
        f"{paper()['source']}. Means are ours, over the categories shown: some that the paper prints differ. "
        f"Difference: to the paper's NDP-Net; * beyond {NUM_SD} standard deviations over seeds, ? one seed, no spread."
    ]
    return Table(f"Table {name}: {table['title']}", ["", *theirs, here, "difference"], rows, notes)


def _difference(values: Sequence[float], published: float) -> str:
    if not values:
        return NA
    difference = 100 * statistics.mean(values) - published
    if len(values) == 1:
        return f"{difference:+.2f} ?"
    is_outside = abs(difference) > NUM_SD * 100 * statistics.stdev(values)
    return f"{difference:+.2f}{' *' if is_outside else ''}"


def _ablation_table(subset: str, measured: Sequence[Measured]) -> Table:
    variants = {each.cell.method: each.cell.variant for each in measured if each.cell.variant}
    full = {metric: by_seed(measured, FULL.name, subset, metric) for metric in METRICS}
    rows = []
    for name, variant in variants.items():
        cells = []
        for metric in METRICS:
            values = by_seed(measured, name, subset, metric)
            changes = [value - full[metric][seed] for seed, value in values.items() if seed in full[metric]]
            change = f"{100 * statistics.mean(changes):+.2f}" if changes and name != FULL.name else ""
            cells += [mean_and_spread(list(values.values())), change]
        drops = variant.paper_drop
        rows.append([name, *cells, "" if drops is None else f"{-drops[0]:+.2f} / {-drops[1]:+.2f}"])
    head = ["", *(text for label in METRICS.values() for text in (label, "change")), "paper, wood: image / pixel"]
    notes = [
        "In %, means over categories; change in points to NDP-Net with all parts and the same seeds. Pixel gap, MSFR "
        "and SSIM are other maps from the same trained model; what leaves out a part or changes a parameter is trained "
        "anew."
    ]
    return Table(f"Table VI, ablations: {subset}", head, rows, notes)


def _cost_table(measured: Sequence[Measured]) -> Table:
    rows = []
    for method in dict.fromkeys(each.cell.method for each in measured):
        of_method = [each for each in measured if each.cell.method == method]
        seconds = [each.train_seconds for each in of_method if each.train_seconds is not None]
        timings = [each.timing for each in of_method if each.timing]
        if not timings and not seconds:
            continue
        cells = [_mean(timing.get(name) for timing in timings) for name in ("milliseconds", "gmac")]
        rows.append([method, _mean(seconds, 0), *cells])
    published = f"{paper()['inference_ms']} (unit not given; ms on a V100 by our reading)"
    note = f"One image, one thread of this machine. The paper's Fig. 11: {published}."
    return Table("Cost (Fig. 11)", ["method", "training, s", "ms an image", "GMAC an image"], rows, [note])


def _mean(values: Iterable[float | None], digits: int = 1) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):.{digits}f}" if known else NA


def _rows_of(measured: Sequence[Measured]) -> list[tuple[str, str | None]]:
    methods = list(dict.fromkeys(each.cell.method for each in measured))
    categories: list[str | None] = list(dict.fromkeys(each.cell.category for each in measured))
    if len(categories) > 1:
        categories.append(None)
    return [(method, category) for method in methods for category in categories]


def _count(measured: Sequence[Measured], subset: str) -> str:
    """How many test images a category has in the subset."""
    counts = {}
    for each in measured:
        if each.scores and subset in each.scores:
            counts[each.cell.category] = each.scores[subset]
    texts = [f"{name}: {found['num_good']} good, {found['num_defective']} defective" for name, found in counts.items()]
    return "; ".join(texts) + "." if texts else ""


def _seeds(seeds: Sequence[int]) -> str:
    return f"One seed ({seeds[0]}): no spread is known." if len(seeds) == 1 else f"Seeds {', '.join(map(str, seeds))}."


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
