"""Rebuilding a registered version from its commit and its data, and comparing it with what is registered."""

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ndpnet.files import some_names
from ndpnet.inference.identity import package_hash
from ndpnet.inference.package import CONFIG
from ndpnet.promotion.worktree import Worktree, checked_out, find_differences
from ndpnet.table import format_rows
from ndpnet.tracking.flat import leaves
from ndpnet.tracking.identity import LOCK, lock_hash
from ndpnet.tracking.models import IDENTITIES, registered_metrics, registered_origin
from ndpnet.tracking.registry import Registry

logger = logging.getLogger(__name__)

EQUAL, CLOSE, DIFFERENT = "equal bit for bit", "within tolerance", "different"
# of a metric in [0, 1]: the order of a GPU's additions is not fixed, and training carries it on
GPU_TOLERANCE = 0.01


@dataclass(frozen=True)
class Row:
    """One thing that was compared. tolerance: how far apart two numbers may be; None where only equal is equal."""

    name: str
    registered: Any
    reproduced: Any
    tolerance: float | None = None

    @property
    def verdict(self) -> str:
        """EQUAL, CLOSE or DIFFERENT."""
        if self.registered == self.reproduced:
            return EQUAL
        values = (self.registered, self.reproduced)
        is_close = (
            self.tolerance is not None
            and all(isinstance(value, int | float) and math.isfinite(value) for value in values)
            and abs(values[0] - values[1]) <= self.tolerance
        )
        return CLOSE if is_close else DIFFERENT


def reproduce(
    name: str,
    version: int | str,
    *,
    work_dir: Path = Path(".work"),
    tolerance: float | None = None,
    is_any_lock: bool = False,
    is_kept: bool = False,
) -> dict[str, Any]:
    """Run the pipeline of a version's commit on that commit's data. -> what was compared, and whether it is the same.

    tolerance: of metrics, 0 for bit for bit; None lets the device decide. Killed, the same call goes on where it was.
    ValueError: the version cannot be rebuilt here, and why.
    """
    import torch

    registered = Registry(name).version(version)
    tags, origin = registered.tags, registered_origin(name, registered.version)
    category, commit = _what_to_build(f"{name} version {registered.version}", tags, origin)
    expected = registered_metrics(name, registered.version)
    folder = work_dir / "reproduce" / f"{name}-{registered.version}"
    with checked_out(Path(), commit, folder, is_kept=is_kept) as tree:
        _check_lock(tree, tags.get("ndpnet.lock_hash", "unknown"), is_any_lock=is_any_lock)
        _check_params(tree, origin)
        tree.add_category(category)
        tree.bring_data()
        tree.run_pipeline(f"evaluate@{category}")
        if tolerance is None:
            tolerance = GPU_TOLERANCE if torch.cuda.is_available() else 0.0
        rows = compare(tree.folder / "build" / category, origin, expected, tolerance)
    return {
        "name": name,
        "version": int(registered.version),
        "commit": commit,
        "tolerance": tolerance,
        "result": conclude(rows),
        "rows": [asdict(row) | {"verdict": row.verdict} for row in rows],
    }


def compare(built_dir: Path, origin: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float) -> list[Row]:
    """What was built beside what is registered: identities, the package, every metric with its interval.

    origin: of `registered_origin`.
    """
    config = json.loads((built_dir / "model" / CONFIG).read_text(encoding="utf-8"))
    metrics = json.loads((built_dir / "evaluation/metrics.json").read_text(encoding="utf-8"))
    # first: with another one the bits differ, and nothing is wrong
    first = ("processor", *IDENTITIES)
    rows = [Row(key, origin.get(key), config["lineage"].get(key)) for key in first]
    # of a version with exported engines the model alone is built again
    rows.append(Row("package_hash", origin["hash_without_engines"], package_hash(built_dir / "model")))
    old, new = dict(leaves(expected, has_lists=True)), dict(leaves(metrics, has_lists=True))
    rows += [Row(key, old.get(key), new.get(key), tolerance or None) for key in sorted(old.keys() | new.keys())]
    return rows


def conclude(rows: list[Row]) -> str:
    """All equal, or the data, parameters and code equal and the metrics close, or different."""
    if all(row.verdict == EQUAL for row in rows):
        return EQUAL
    is_same_origin = all(row.verdict == EQUAL for row in rows if row.name in IDENTITIES)
    # the weights cannot be close, only equal: their hash, and what is text, say nothing where the metrics are close
    measured = [row for row in rows if row.tolerance is not None and not isinstance(row.registered, str)]
    is_close = bool(measured) and all(row.verdict != DIFFERENT for row in measured)
    return CLOSE if is_same_origin and is_close else DIFFERENT


def format_rows_of(result: Mapping[str, Any]) -> str:
    """The result as a table: what differs, and the counts of what does not."""
    rows = [("", "registered", "reproduced", "")]
    always = ("_hash", ".value", "processor")
    shown = [row for row in result["rows"] if row["verdict"] != EQUAL or row["name"].endswith(always)]
    rows += [(row["name"], _cell(row["registered"]), _cell(row["reproduced"]), row["verdict"]) for row in shown]
    num_equal = sum(row["verdict"] == EQUAL for row in result["rows"])
    tolerance = f" (tolerance of metrics: {result['tolerance']:g})" if result["tolerance"] else ""
    return "\n".join(
        [
            f"{result['name']} version {result['version']}, commit {result['commit']}",
            *format_rows(rows),
            f"{num_equal} of {len(result['rows'])} values are equal: {result['result'].upper()}{tolerance}",
        ]
    )


def _what_to_build(version: str, tags: Mapping[str, str], origin: Mapping[str, Any]) -> tuple[str, str]:
    commit, category = tags.get("ndpnet.git_commit", "unknown"), tags.get("ndpnet.category")
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit) or category is None:
        raise ValueError(
            f"{version} has no commit in its tags (it was registered outside of git: it cannot be rebuilt)"
        )
    if tags.get("ndpnet.git_dirty") != "false":
        raise ValueError(f"{version} was made with changes that are not in commit {commit} (it cannot be rebuilt)")
    if not origin["is_data_pinned"]:
        raise ValueError(f"{version} was made from data that was not pinned (it cannot be rebuilt)")
    if origin["is_recalibrated"]:
        raise ValueError(
            f"{version} was recalibrated: what set its threshold is in no commit (reproduce the version that "
            "`ndpnet calibrate` was given, then calibrate the rebuilt model on the same pictures)"
        )
    return category, commit


def _check_lock(tree: Worktree, registered: str, *, is_any_lock: bool) -> None:
    problems = []
    if lock_hash(tree.folder) != registered or registered == "unknown":
        problems.append(
            f"the version's lock {registered[:12]} is not {LOCK} of the commit, {lock_hash(tree.folder)[:12]}"
        )
    elif differences := find_differences(tree.folder / LOCK):
        problems.append(f"this environment is not that of {LOCK}: {some_names(differences)}")
    for problem in problems:
        if not is_any_lock:
            raise ValueError(
                f"{problem} (make an environment from that lock, or pass --any-lock and expect other bits)"
            )
        logger.warning("%s: the bits may differ", problem)


def _check_params(tree: Worktree, origin: Mapping[str, Any]) -> None:
    own, registered = tree.params_hash(), origin["params_hash"]
    if own != registered:
        raise ValueError(
            f"the version was made with other parameters than params.yaml of commit {tree.commit} has "
            f"(hash {registered}, not {own}: it was made with -P, --profile or --params, which no commit holds)"
        )


def _cell(value: Any) -> str:
    text = "n/a" if value is None else f"{value:.6f}" if isinstance(value, float) else str(value)
    return text if len(text) <= 20 else text[:12] + "…"
