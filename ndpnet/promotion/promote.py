"""Promotion, step by step: judge both models, pass the gate, keep the evidence, move the champion; or go back."""

import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ndpnet.config_platform import PromotionConfig
from ndpnet.files import write_json
from ndpnet.inference.engines.stored import largest_difference
from ndpnet.inference.package import read_package
from ndpnet.model_card import shorten
from ndpnet.promotion import gate
from ndpnet.promotion.evidence import gather
from ndpnet.promotion.table import format_checks
from ndpnet.tracking.models import IDENTITIES, MAX_DESCRIPTION, download_package
from ndpnet.tracking.moves import Kind
from ndpnet.tracking.registry import CHALLENGER, EVIDENCE, Registry

logger = logging.getLogger(__name__)

PROMOTED, FORCED, REFUSED, UNCHANGED = "promoted", "forced", "refused", "already champion"
GATE_TAG = "ndpnet.gate"
SECTION = "\n\n## Promotion\n\n"  # of the description, after the card
MAX_TABLE = 4000  # characters of it in the description; of the card stays what fits


@dataclass(frozen=True)
class PromotionRequest:
    """What somebody asks for. version: None is the challenger, else the newest; force_reason: to skip the gate."""

    name: str  # of the registered model
    bounds: PromotionConfig
    version: int | None = None
    prepared_dir: Path | None = None
    champion_prepared_dir: Path | None = None  # where the champion takes pictures of another size
    force_reason: str = ""
    device: str = "cpu"


def promote(request: PromotionRequest, out: Path | None = None) -> dict[str, Any]:
    """Make a version the champion if it passes the gate. -> the content of promotion.json, as written to `out`.

    It is uploaded, and the version marked with it, before the champion moves. A promotion that was cut short is
    finished first. ValueError: what was asked for is not there, or somebody was faster.
    """
    registry = Registry(request.name)
    timeline = registry.settle()
    version, champion = _choose(registry, request.version), timeline.champion
    head = _head(registry, version, champion)
    if version == champion:
        report = head | {"decision": UNCHANGED, "checks": [], "blocking": []}
    else:
        registry.nominate(version)
        is_withdrawn = version in timeline.withdrawn
        report = head | _judge(registry, version, champion, request, is_withdrawn=is_withdrawn)
        _write(report, out)  # where it cannot be written nothing is moved
        run_id = _keep(registry, version, report)
        if report["decision"] != REFUSED:
            kind: Kind = "force" if report["decision"] == FORCED else "promote"
            reason = request.force_reason
            registry.move(kind, version, source=champion, reason=reason, run_id=run_id, evidence=report)
        report |= {"run_id": run_id}
    _write(report, out)
    return report


def _write(report: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        write_json(Path(out) / EVIDENCE, report)


def rollback(name: str, reason: str) -> tuple[int, int]:
    """Put the champion before this one back, at once and without judging it. -> the two versions, old and new.

    ValueError: there is none, or somebody was faster.
    """
    registry = Registry(name)
    timeline = registry.timeline()
    if timeline.champion is None:
        raise ValueError(f"{name} has no champion to roll back from (run `ndpnet promote`)")
    if timeline.previous is None:
        raise ValueError(f"{name} has no champion before version {timeline.champion} (nothing to go back to)")
    registry.move("rollback", timeline.previous, source=timeline.champion, reason=reason)
    return timeline.champion, timeline.previous


def _choose(registry: Registry, version: int | None) -> int:
    if version is None:
        version = registry.aliases().get(CHALLENGER) or registry.newest()
    return int(registry.version(version).version)


def _head(registry: Registry, version: int, champion: int | None) -> dict[str, Any]:
    numbers = {"challenger": version, "champion": champion}
    return {
        "name": registry.name,
        **registry.author,
        **{role: None if number is None else _identity(registry, number) for role, number in numbers.items()},
    }


def _identity(registry: Registry, number: int) -> dict[str, Any]:
    tags = registry.version(number).tags
    return {"version": number} | {key: tags.get(f"ndpnet.{key}", "unknown") for key in ("package_hash", "git_commit")}


def _judge(
    registry: Registry, version: int, champion: int | None, request: PromotionRequest, *, is_withdrawn: bool
) -> dict[str, Any]:
    """The content of promotion.json, below its head. ValueError, if nothing forces it: a side cannot be judged."""
    evidence, problem = gate.Evidence(), ""
    with tempfile.TemporaryDirectory(prefix="ndpnet-promote-") as scratch:
        package = read_package(download_package(registry.name, version, Path(scratch) / "challenger"))
        try:
            evidence = _measure(request, package.folder, champion)
        except ValueError as error:
            if not request.force_reason:
                raise
            problem = str(error)
            logger.warning("not judged: %s", problem)
        tags, threshold, lineage = registry.version(version).tags, package.threshold, package.config["lineage"]
        # by its config.json, which the registered hash covers, and of git by the tags, which anybody may change
        challenger = gate.Challenger(
            has_champion=champion is not None,
            is_withdrawn=is_withdrawn,
            is_training_pinned=lineage["is_data_pinned"],
            is_git_clean={"true": False, "false": True}.get(tags.get("ndpnet.git_dirty", "")),
            git_changes=tags.get("ndpnet.git_changes", ""),
            threshold=None if threshold is None else threshold["value"],
            export_difference=largest_difference(package),
        )
    checks = gate.decide(challenger, evidence, request.bounds)
    is_passed = gate.has_passed(checks)
    return {
        "decision": FORCED if request.force_reason else PROMOTED if is_passed else REFUSED,
        "has_passed": is_passed,
        "reason": request.force_reason,
        "not_judged": problem,
        "lineage": {key: lineage[key] for key in IDENTITIES},
        "checks": [asdict(check) for check in checks],
        "blocking": [check.name for check in checks if check.is_blocking],
        "bounds": request.bounds.model_dump(mode="json"),
        "evidence": None if problem else asdict(evidence),
    }


def _measure(request: PromotionRequest, package_dir: Path, champion: int | None) -> gate.Evidence:
    if request.prepared_dir is None:
        raise ValueError("no test set to judge on (pass --prepared DIR)")
    champion_side = None
    if champion is not None:
        folder = download_package(request.name, champion, package_dir.with_name("champion"))
        champion_side = (folder, request.champion_prepared_dir or request.prepared_dir)
    metrics = tuple(request.bounds.tolerances)
    return gather((package_dir, request.prepared_dir), champion_side, metrics=metrics, device=request.device)


def _keep(registry: Registry, version: int, report: dict[str, Any]) -> str:
    """Upload promotion.json; the version gets the decision as a tag, the table below its card. -> id of the run"""
    table = format_checks(report)
    files = {EVIDENCE: json.dumps(report, sort_keys=True, indent=2) + "\n", "promotion.txt": table + "\n"}
    tags = {GATE_TAG: report["decision"] if report["decision"] != PROMOTED else "passed"}
    card = (registry.version(version).description or "").partition(SECTION)[0]
    if len(table) > MAX_TABLE:
        table = table[:MAX_TABLE].rpartition("\n")[0] + f"\n... (all of it is in {EVIDENCE} of the run)"
    section = f"{SECTION}```\n{table}\n```\n"
    return registry.keep_evidence(version, files, tags, shorten(card, MAX_DESCRIPTION - len(section)) + section)
