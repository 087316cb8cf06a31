"""The model card: what a person must know of a registered model before trusting it, as Markdown."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ndpnet.data.fitting import MIN_SIDE
from ndpnet.data.manifest import GOOD, FileRecord
from ndpnet.inference.engines.stored import engine_names
from ndpnet.inference.package import ModelPackage
from ndpnet.templates import open_template
from ndpnet.tracking.flat import flat_params

GENERAL_LIMITS = (
    "It has learnt one surface under one light, lens and distance; after a change of these, calibrate it again.",
    "It marks what looks unlike its good training images; it does not name the kind of a defect.",
    f"Pictures with a side below {MIN_SIDE} pixels are refused.",
)
NO_PERCEPTUAL_LOSS = "Trained without the perceptual loss that the paper's method has."
SHORTENED = "\n\n*Shortened: the whole card is `model_card.md` among the model's artifacts.*\n"

Summary = Mapping[str, Any]


def write_card(
    package: ModelPackage,
    summary: Summary,
    timing: Mapping[str, Any],
    *,
    name: str,
    tags: Mapping[str, str],
    licence: str = "",
) -> str:
    """The card of a package. summary, timing: metrics.json and timing.json of its evaluation; tags: of its version."""
    from ndpnet.evaluation.report import METRICS, lead_sentence, percent

    config = package.config
    filters: dict[str, Callable[..., Any]] = {
        "percent": percent,
        "code": _Code,
        "shell": lambda text: _Code(shlex.quote(text)),
    }
    # Markdown, not HTML: `_escape` sees every value
    return open_template("ndpnet", "model_card.md.j2", filters=filters, finalize=_escape).render(
        name=name,
        lead=lead_sentence(summary),
        category=config["category"],
        tags=tags,
        commit=tags.get("ndpnet.git_commit", "unknown"),
        params=config["params"],
        summary=summary,
        metrics=METRICS,
        threshold=package.threshold,
        limits=_limits(package, summary),
        counts=_counts(package.manifest().files, summary),
        sizes=_sizes(package.manifest().files),
        licence=licence,
        timing=timing,
        lineage=_lineage(package, tags),
        is_data_pinned=config["lineage"]["is_data_pinned"],
        parameters=dict(sorted(flat_params(config["params"]).items())),
    )


def shorten(card: str, limit: int) -> str:
    """The card's first sections, as many as fit `limit` characters whole, and where the rest is."""
    return card if len(card) <= limit else card[: limit - len(SHORTENED)].rpartition("\n\n## ")[0] + SHORTENED


def read_licence(import_report: Path) -> str:
    """The licence note of an import report; empty without a report or a note. ValueError: it cannot be read."""
    if not import_report.is_file():
        return ""
    try:
        return str(json.loads(import_report.read_text(encoding="utf-8")).get("licence") or "")
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"cannot read the import report {import_report}: {error} (run `ndpnet import` again)"
        ) from error


class _Code(str):
    """Text inside a fenced block: nothing is escaped there, and no fence is in it."""

    def __new__(cls, text: str) -> "_Code":
        return super().__new__(cls, text.replace("`", "'"))


def _escape(value: Any) -> str:
    """A value as plain Markdown text on one line: a defect type may be named `a|b` or `<img>`."""
    if isinstance(value, _Code):
        return value
    text = re.sub(r"[\s\x00-\x1f\x7f]+", " ", str(value))
    return re.sub(r"([\\`|*\[\]])", r"\\\1", text).replace("<", "&lt;")


def _limits(package: ModelPackage, summary: Summary) -> list[str]:
    from ndpnet.evaluation.report import reasons_for_doubt

    doubts = [sentence for _, sentence in reasons_for_doubt(summary, [])]
    own = [NO_PERCEPTUAL_LOSS] if package.lacks_perceptual_loss else []
    return [*doubts, *summary["notes"], *own, *GENERAL_LIMITS]


def _counts(files: tuple[FileRecord, ...], summary: Summary) -> dict[str, tuple[int, int]]:
    """Good and defective images per split; the package knows those it was made of, the summary the test images."""
    counts = {}
    for split in ("train", "validation", "calibration"):
        is_good = [record.defect_type == GOOD for record in files if record.split == split]
        counts[split] = (sum(is_good), len(is_good) - sum(is_good))
    return counts | {"test": (summary["num_good"], summary["num_defective"])}


def _sizes(files: tuple[FileRecord, ...]) -> str:
    sizes = sorted({(record.width, record.height) for record in files})
    shown = [f"{width}x{height}" for width, height in sizes]
    return shown[0] if len(shown) == 1 else f"{shown[0]} to {shown[-1]} ({len(shown)} sizes)"


def _lineage(package: ModelPackage, tags: Mapping[str, str]) -> dict[str, str]:
    own = {**package.config["lineage"], "is_recalibrated": package.is_recalibrated}
    versions = ", ".join(f"{name} {version}" for name, version in sorted(own.pop("versions").items()))
    if engines := engine_names(package):
        own["engines"] = ", ".join(engines)
    texts = {key: json.dumps(value) if isinstance(value, bool) else str(value) for key, value in sorted(own.items())}
    rest = {key.removeprefix("ndpnet."): value for key, value in sorted(tags.items())}
    return texts | rest | {"libraries": versions}
