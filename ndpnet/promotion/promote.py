"""Promotion, step by step: judge both models, pass the gate, keep the evidence, move the champion; or go back."""

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ndpnet.config import Params
from ndpnet.config_platform import promotion_of
from ndpnet.files import write_json
from ndpnet.inference.engines.stored import largest_difference
from ndpnet.inference.package import read_package
from ndpnet.model_card import shorten
from ndpnet.promotion import gate
from ndpnet.promotion.evidence import Evidence, Side, gather
from ndpnet.promotion.table import format_checks
from ndpnet.tracking.models import download_package
from ndpnet.tracking.moves import Kind, Timeline
from ndpnet.tracking.registry import CHALLENGER, EVIDENCE, Author, Registry

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
PROMOTED, FORCED, REFUSED, UNCHANGED = "promoted", "forced", "refused", "already champion"
GATE_TAG = "ndpnet.gate"
SECTION = "\n\n## Promotion\n\n"  # of the description, after the card
MAX_DESCRIPTION = 5000  # characters


@dataclass(frozen=True)
class Settings:
    """How to judge: the bounds of the gate, and where the network runs."""

    bounds: gate.Bounds
    device: str = "cpu"


@dataclass(frozen=True)
class Wish:
    """What somebody asks for. version: None is the challenger, else the newest; force_reason: to skip the gate."""

    version: int | None = None
    prepared_dir: Path | None = None
    champion_prepared_dir: Path | None = None  # where the champion takes pictures of another size
    force_reason: str = ""


def settings_of(params: Params, *, device: str = "cpu") -> Settings:
    """How `params.promotion` says to judge."""
    chosen = promotion_of(params)
    metrics: dict[str, gate.MetricBound] = {
        name: gate.MetricBound(tolerance, chosen.floors.get(name, 0.0)) for name, tolerance in chosen.tolerances.items()
    }
    return Settings(gate.Bounds(metrics=metrics, **chosen.model_dump(exclude={"tolerances", "floors"})), device)


def promote(name: str, wish: Wish, settings: Settings, author: Author, out: Path | None = None) -> dict[str, Any]:
    """Make a version the champion if it passes the gate. -> the content of promotion.json, as written to `out`.

    It is uploaded, and the version marked with it, before the champion moves. A promotion that was cut short is
    finished first. ValueError: what was asked for is not there, or somebody was faster.
    """
    registry = Registry(name)
    registry.adopt(author)
    timeline = registry.settle()
    version, champion = _choose(registry, timeline, wish.version), timeline.champion
    head = _head(registry, version, champion, author)
    if version == champion:
        report = head | {"decision": UNCHANGED, "checks": [], "blocking": []}
    else:
        registry.nominate(version)
        is_withdrawn = version in timeline.withdrawn
        report = head | _judge(registry, version, champion, wish, settings, is_withdrawn=is_withdrawn)
        run_id = _keep(registry, version, report)
        if report["decision"] != REFUSED:
            is_forced = report["decision"] == FORCED
            kind: Kind = "force" if is_forced else "promote"
            reason = wish.force_reason if is_forced else ""
            registry.move(kind, version, source=champion, author=author, reason=reason, run_id=run_id, evidence=report)
        report |= {"run_id": run_id}
    if out is not None:
        write_json(Path(out) / EVIDENCE, report)
    return report


def rollback(name: str, reason: str, author: Author) -> tuple[int, int]:
    """Put the champion before this one back, at once and without judging it. -> the two versions, old and new.

    ValueError: there is none, or somebody was faster.
    """
    registry = Registry(name)
    registry.adopt(author)
    timeline = registry.timeline()
    if timeline.champion is None:
        raise ValueError(f"{name} has no champion to roll back from (run `ndpnet promote`)")
    target = registry.previous(timeline)
    registry.move("rollback", target, source=timeline.champion, author=author, reason=reason)
    return timeline.champion, target


def _choose(registry: Registry, timeline: Timeline, version: int | None) -> int:
    if version is None:
        version = registry.aliases().get(CHALLENGER) or registry.newest()
    return int(registry.version(version).version)


def _head(registry: Registry, version: int, champion: int | None, author: Author) -> dict[str, Any]:
    numbers = {"challenger": version, "champion": champion}
    return {
        "format_version": FORMAT_VERSION,
        "name": registry.name,
        "who": author.who,
        "when": author.when,
        **{role: None if number is None else _identity(registry, number) for role, number in numbers.items()},
    }


def _identity(registry: Registry, number: int) -> dict[str, Any]:
    tags = registry.version(number).tags
    named = ("package_hash", "training_data_hash", "params_hash", "code_hash", "git_commit")
    return {"version": number} | {key: tags.get(f"ndpnet.{key}", "unknown") for key in named}


def _judge(
    registry: Registry, version: int, champion: int | None, wish: Wish, settings: Settings, *, is_withdrawn: bool
) -> dict[str, Any]:
    """The content of promotion.json, below its head. ValueError, if nothing forces it: a side cannot be judged."""
    evidence, problem = None, ""
    with tempfile.TemporaryDirectory(prefix="ndpnet-promote-") as scratch:
        package_dir = download_package(registry.name, version, Path(scratch) / "challenger")
        package = read_package(package_dir)
        export_difference = largest_difference(package)
        try:
            evidence = _measure(registry.name, package_dir, champion, wish, settings)
        except ValueError as error:
            if not wish.force_reason:
                raise
            problem = str(error)
            logger.warning("not judged: %s", problem)
    tags = registry.version(version).tags
    numbers = _numbers(
        tags,
        package.config,
        evidence,
        has_champion=champion is not None,
        is_withdrawn=is_withdrawn,
        export_difference=export_difference,
    )
    checks = gate.decide(numbers, settings.bounds)
    is_passed = gate.has_passed(checks)
    return {
        "decision": FORCED if wish.force_reason else PROMOTED if is_passed else REFUSED,
        "has_passed": is_passed,
        "reason": wish.force_reason,
        "not_judged": problem,
        "checks": [check.to_dict() for check in checks],
        "blocking": [check.name for check in checks if check.is_blocking],
        "bounds": asdict(settings.bounds),
        "evidence": None if evidence is None else asdict(evidence),
    }


def _measure(name: str, package_dir: Path, champion: int | None, wish: Wish, settings: Settings) -> Evidence:
    if wish.prepared_dir is None:
        raise ValueError("no test set to judge on (pass --prepared DIR)")
    champion_side = None
    if champion is not None:
        folder = download_package(name, champion, package_dir.with_name("champion"))
        champion_side = Side(folder, wish.champion_prepared_dir or wish.prepared_dir)
    return gather(
        Side(package_dir, wish.prepared_dir),
        champion_side,
        metrics=tuple(settings.bounds.metrics),
        device=settings.device,
    )


def _numbers(
    tags: Mapping[str, str],
    package: Mapping[str, Any],
    evidence: Evidence | None,
    *,
    has_champion: bool,
    is_withdrawn: bool,
    export_difference: float | None,
) -> gate.Numbers:
    """package: its config.json, which the registered hash covers; tags: of its version, which anybody may change."""
    is_dirty, threshold = _flag(tags, "git_dirty"), package["threshold"]
    known = gate.Numbers(
        has_champion=has_champion,
        metrics={},
        is_training_pinned=package["lineage"].get("is_data_pinned") is True,
        is_git_clean=None if is_dirty is None else not is_dirty,
        git_changes=tags.get("ndpnet.git_changes", ""),
        is_withdrawn=is_withdrawn,
        threshold=None if threshold is None else threshold["value"],
        has_export=export_difference is not None,
        export_difference=export_difference,
    )
    if evidence is None:
        return known
    return replace(
        known,
        metrics=evidence.metrics,
        is_test_pinned=evidence.test_set["is_pinned"],
        num_seen=evidence.num_seen,
        num_units=evidence.num_units,
        false_alarms=evidence.false_alarms,
        worst_type=evidence.worst_type,
        latency_ratio=evidence.latency_ratio,
    )


def _flag(tags: Mapping[str, str], key: str) -> bool | None:
    """A tag as a fact; None where it is missing or says neither."""
    return {"true": True, "false": False}.get(tags.get(f"ndpnet.{key}", ""))


def _keep(registry: Registry, version: int, report: dict[str, Any]) -> str:
    """Upload promotion.json; the version gets the decision as a tag, the table below its card. -> id of the run"""
    table = format_checks(report)
    files = {EVIDENCE: json.dumps(report, sort_keys=True, indent=2) + "\n", "promotion.txt": table + "\n"}
    tags = {GATE_TAG: report["decision"] if report["decision"] != PROMOTED else "passed"}
    card = (registry.version(version).description or "").partition(SECTION)[0]
    section = f"{SECTION}```\n{table}\n```\n"[: MAX_DESCRIPTION // 2]
    return registry.keep_evidence(version, files, tags, shorten(card, MAX_DESCRIPTION - len(section)) + section)
