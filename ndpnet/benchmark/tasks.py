"""What a benchmark consists of: tasks named by all that they depend on, so nothing is computed twice or in vain."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ndpnet.benchmark.peers.worker.settings import PeerSettings
from ndpnet.benchmark.suites import Suite
from ndpnet.benchmark.variants import FULL, Variant, check_fits
from ndpnet.config import Params, load_params
from ndpnet.data.layouts import scan_mvtec
from ndpnet.data.roi import ROI
from ndpnet.files import hash_of
from ndpnet.lineage import code_hash, identity_params, phase1_params
from ndpnet.steps import BANK_PARAMETERS
from ndpnet.synthesis.bank import list_sources

PREPARE, BANK, PHASE1, PHASE2, SCORE, TIME, PEER, PEER_SCORE = (
    "prepared", "bank", "phase1", "model", "score", "time", "peer", "peer-score",
)  # fmt: skip
# a change of these makes their outputs anew
PREPARING_CODE = ("data",)
SCORING_CODE = ("metrics/metrics.py", "evaluation/evaluate.py", "inference", "model")
SCORING_CODE += ("benchmark/results.py", "benchmark/scoring.py", "benchmark/suites.py")
PEERS_CODE = ("benchmark/peers/worker",)
DONE = ".done.json"  # beside a task's folder: it is finished, and these are its metrics


@dataclass(frozen=True)
class Task:
    """One step of the benchmark; the key says everything that its output depends on."""

    kind: str
    key: str
    name: str  # for people
    needs: dict[str, str]  # kind -> the key of the task whose output it is
    arguments: dict[str, Any] = field(default_factory=dict)

    def folder(self, out: Path) -> Path:
        """Where its output goes."""
        return Path(out) / self.kind / self.key[:16]

    def done(self, out: Path) -> Path:
        """The file that says that it is finished."""
        return self.folder(out).with_name(self.key[:16] + DONE)

    def metrics(self, out: Path) -> dict[str, Any] | None:
        """What it returned; None: it is not finished."""
        path = self.done(out)
        if not (path.is_file() and self.folder(out).is_dir()):
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"{path} is damaged (remove it: {self.name} is run again)")
        return found

    def log(self, out: Path) -> Path:
        """What its process printed."""
        return self.folder(out).with_name(self.key[:16] + ".log")


@dataclass(frozen=True)
class Cell:
    """One result of the report: a method on a category with a seed, and the tasks that make it."""

    method: str
    category: str
    seed: int
    score: str  # key of its score task
    trainings: tuple[str, ...] = ()  # keys of the tasks whose seconds are its training
    timing: str | None = None
    variant: Variant | None = None  # None: another method


@dataclass
class Plan:
    """All tasks by key, in an order in which each comes after what it needs, and the cells of the report."""

    suite: Suite
    tasks: dict[str, Task] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)

    def add(self, kind: str, name: str, identity: Any, needs: dict[str, str], **arguments: Any) -> str:
        """Add a task unless it is there. -> its key."""
        key = hash_of([kind, identity, needs])
        self.tasks.setdefault(key, Task(kind, key, name, needs, arguments))
        return key


@dataclass(frozen=True)
class Wishes:
    """What the command line asks for."""

    data_dir: Path
    params_path: Path
    profile: str | None
    overrides: tuple[str, ...]
    seeds: Sequence[int]
    variants: Sequence[Variant]
    peers: Sequence[Mapping[str, Any]] = ()  # settings, without image size and seed
    peers_python: Path | None = None


def make_plan(suite: Suite, categories: Sequence[str], wishes: Wishes) -> Plan:
    """Lay out every task of the suite's categories, seeds, variants and peers. ValueError: parameters or data."""
    plan = Plan(suite)
    for category in categories:
        fingerprint = _fingerprint(wishes.data_dir / category)
        for seed in wishes.seeds:
            for variant in wishes.variants:
                _add_variant(plan, category, seed, variant, wishes, fingerprint)
            for peer in wishes.peers:
                _add_peer(plan, category, seed, peer, wishes, fingerprint)
    return plan


def params_of(suite: Suite, wishes: Wishes, variant: Variant, seed: int) -> Params:
    """The parameters of one training: profile, suite, command line, variant, seed, each over the ones before."""
    overrides = (*suite.overrides, *wishes.overrides, *variant.overrides, f"seed={seed}", "runtime.devices=1")
    return load_params(wishes.params_path, profile=wishes.profile, overrides=overrides)


def _add_variant(plan: Plan, category: str, seed: int, variant: Variant, wishes: Wishes, fingerprint: str) -> None:
    params = params_of(plan.suite, wishes, variant, seed)
    check_fits(variant, params.model.encoder)
    travels, code, where = {"params": params.to_json()}, code_hash(), f"{category}, seed {seed}, {variant.name}"
    prepared = _add_prepared(plan, category, params, wishes, fingerprint)
    made_of = params.synthesis.model_dump(mode="json", include=BANK_PARAMETERS)
    if params.synthesis.sources:
        photos = [str(path.resolve()) for path in list_sources(params.synthesis.sources)]
        made_of["photos"] = _hash_of_stats(Path(), photos)
    bank = plan.add(BANK, f"defect bank, seed {seed}", [made_of, seed, code], {}, **travels)
    inputs = {PREPARE: prepared, BANK: bank}
    phase1 = plan.add(PHASE1, f"phase 1, {where}", [phase1_params(params), code], inputs, **travels)
    model = plan.add(PHASE2, f"phase 2, {where}", [identity_params(params), code], inputs | {PHASE1: phase1}, **travels)
    trained = {PREPARE: prepared, PHASE2: model}
    how = {"suite": plan.suite.name, "scoring": variant.scoring}
    score = plan.add(SCORE, f"score, {where}", [how, code_hash(SCORING_CODE)], trained, **how)
    timing = None
    if variant == FULL:
        timing = plan.add(TIME, f"time, {where}", code_hash(SCORING_CODE), {PHASE2: model})
    plan.cells.append(Cell(variant.name, category, seed, score, (phase1, model), timing, variant))


def _add_peer(plan: Plan, category: str, seed: int, peer: Mapping[str, Any], wishes: Wishes, fingerprint: str) -> None:
    params = params_of(plan.suite, wishes, FULL, seed)
    settings = PeerSettings(**peer, image_size=params.data.image_size, seed=seed)
    prepared = _add_prepared(plan, category, params, wishes, fingerprint)
    method = method_of(peer)
    where = f"{category}, seed {seed}, {method}"
    arguments = {"settings": asdict(settings), "python": str(wishes.peers_python)}
    identity = [asdict(settings), code_hash(PEERS_CODE)]
    trained = plan.add(PEER, f"train {where}", identity, {PREPARE: prepared}, **arguments)
    inputs = {PREPARE: prepared, PEER: trained}
    for with_filters in (False, True):
        title = method + (" + filters" if with_filters else "")
        how = {"suite": plan.suite.name, "with_filters": with_filters}
        identity = [how, code_hash(SCORING_CODE)]
        score = plan.add(PEER_SCORE, f"score {where}, filters {with_filters}", identity, inputs, **how)
        plan.cells.append(Cell(title, category, seed, score, (trained,), trained))


def method_of(peer: Mapping[str, Any]) -> str:
    """Another method's name in the report: with all that was chosen otherwise than its authors did."""
    others = [f"{name} {value}" for name, value in peer.items() if name not in ("model", "sources", "device")]
    return f"{peer['model']} ({', '.join(others)})" if others else str(peer["model"])


def _add_prepared(plan: Plan, category: str, params: Params, wishes: Wishes, fingerprint: str) -> str:
    identity = [params.data.model_dump(mode="json"), category, fingerprint, code_hash(PREPARING_CODE)]
    arguments = {"data_dir": str(wishes.data_dir.resolve()), "category": category, "params": params.to_json()}
    return plan.add(PREPARE, f"prepare {category}", identity, {}, **arguments)


def _fingerprint(category_dir: Path) -> str:
    """Of the pictures' names, sizes and times, the region's, too: what was replaced is prepared again."""
    found = scan_mvtec(category_dir)
    paths = [path for image in found for path in (image.path, image.mask_path) if path]
    return _hash_of_stats(category_dir, [*paths, *(path.name for path in category_dir.glob(ROI))])


def _hash_of_stats(folder: Path, names: Sequence[str]) -> str:
    stats = [(name, (folder / name).stat()) for name in names]
    return hash_of([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])
