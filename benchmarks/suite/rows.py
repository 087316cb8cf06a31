"""The rows of a benchmark: a method on a category with a seed, made in folders named by all that they depend on."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ndpnet import steps
from ndpnet.benchmark.peers import PYTHON, Peer, run_peer
from ndpnet.benchmark.results import score_model, score_peer, time_model
from ndpnet.benchmark.suites import SUITES
from ndpnet.benchmark.variants import FULL, Variant
from ndpnet.config import Params
from ndpnet.data.importing.sources.mvtec import scan_mvtec
from ndpnet.data.roi import ROI
from ndpnet.files import hash_of, write_json
from ndpnet.lineage import code_hash, identity_params, phase1_params
from ndpnet.locks import locked
from ndpnet.synthesis.bank import list_sources

# a change of these makes their outputs anew
PREPARING_CODE = ("data",)
SCORING_CODE = ("metrics/exact.py", "evaluation/judging.py", "inference", "model")
SCORING_CODE += ("benchmark/results.py", "benchmark/scoring.py", "benchmark/suites.py")
PEERS_CODE = ("benchmark/peer_worker.py",)
DONE = ".done.json"  # beside a folder: it is finished, and these are its metrics

Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A method: a variant of NDP-Net, or another model (`peer`), with NDP-Net's filters or without them."""

    suite: str
    data_dir: Path
    out: Path
    category: str
    seed: int
    params: Params
    variant: Variant | None = None
    peer: Peer | None = None
    with_filters: bool = False

    @property
    def method(self) -> str:
        """Its name in tables."""
        return self.variant.name if self.variant else self.peer.text + (" + filters" if self.with_filters else "")

    @property
    def name(self) -> str:
        """Its name in messages."""
        return f"{self.category}, seed {self.seed}, {self.method}"

    @cached_property
    def prepared_dir(self) -> Path:
        """Prepared pictures; what was replaced is prepared again."""
        values = self.params.data.model_dump(mode="json")
        pictures = _hash_of_pictures(self.data_dir / self.category)
        return self._folder("prepared", values, self.category, pictures, code_hash(PREPARING_CODE))

    @cached_property
    def bank_dir(self) -> Path:
        """The defect bank."""
        synthesis = self.params.synthesis
        photos = [str(path.resolve()) for path in list_sources(synthesis.sources)] if synthesis.sources else []
        values = synthesis.model_dump(mode="json", include=steps.BANK_PARAMETERS)
        return self._folder("bank", values, self.seed, _hash_of_stats(Path(), photos), code_hash())

    @cached_property
    def phase1_dir(self) -> Path:
        """Weights of phase 1, which many a phase 2 may follow."""
        inputs = (self.prepared_dir.name, self.bank_dir.name)
        return self._folder("phase1", phase1_params(self.params), code_hash(), *inputs)

    @cached_property
    def model_dir(self) -> Path:
        """The trained model: a package, or a peer's predictions."""
        if self.peer:
            return self._folder("peer", asdict(self.peer), self.seed, code_hash(PEERS_CODE), self.prepared_dir.name)
        return self._folder("model", identity_params(self.params), code_hash(), self.phase1_dir.name)

    @cached_property
    def path(self) -> Path:
        """The file of its result."""
        how = self.with_filters if self.peer else self.variant.scoring
        return self._folder("rows", self.suite, how, code_hash(SCORING_CODE), self.model_dir.name).with_suffix(".json")

    def _folder(self, kind: str, *identity: Any) -> Path:
        return self.out / kind / hash_of([kind, *identity])[:16]

    def result(self) -> Result | None:
        """What `make` returned; None: it is not finished."""
        return json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else None

    def make(self, device: str) -> Result:
        """Prepare, train, judge, whatever of these is not done. -> scores, seconds of training, timing."""
        prepared = self.prepared_dir
        _once(prepared, lambda: steps.prepare(self.data_dir, self.category, prepared, self.params, allow_unpinned=True))
        result = self._make_peer(device) if self.peer else self._make_model()
        write_json(self.path, result)
        return result

    def _make_model(self) -> Result:
        inputs, work = (self.prepared_dir, self.bank_dir), self.out / "work"
        _once(self.bank_dir, lambda: steps.synthesize(self.bank_dir, self.params))
        phase1 = _once(self.phase1_dir, lambda: steps.train_phase1(*inputs, self.phase1_dir, self.params, work))
        phase2 = _once(
            self.model_dir,
            lambda: steps.train_phase2(*inputs, self.phase1_dir, self.model_dir, self.params, work),
        )
        scores = score_model(self.prepared_dir, self.model_dir, SUITES[self.suite], scoring=self.variant.scoring)
        timing = time_model(self.model_dir) if self.variant == FULL else None
        return {"scores": scores, "seconds": phase1["seconds"] + phase2["seconds"], "timing": timing}

    def _make_peer(self, device: str) -> Result:
        where = {"seed": self.seed, "device": device, "python": PYTHON}
        info = _once(self.model_dir, lambda: run_peer(self.prepared_dir, self.model_dir, self.peer, **where))
        scores = score_peer(self.prepared_dir, self.model_dir, SUITES[self.suite], with_filters=self.with_filters)
        timing = {"milliseconds": 1000 * info["seconds_per_image"]["p50"], "gmac": info["gmac"]}
        return {"scores": scores, "seconds": info["seconds_train"], "timing": timing, "is_trained": info["is_trained"]}


def _once(folder: Path, make: Callable[[], Result]) -> Result:
    """What `make` returned; the first of the processes that need a folder makes it, the others wait."""
    done = folder.with_name(folder.name + DONE)
    with locked(folder.with_name(folder.name + ".lock"), "", wait_seconds=float("inf")):
        if not (done.is_file() and folder.is_dir()):
            write_json(done, make())
        return json.loads(done.read_text(encoding="utf-8"))


def _hash_of_pictures(category_dir: Path) -> str:
    """Of their names, sizes and times, the region's, too."""
    paths = [path for image in scan_mvtec(category_dir) for path in (image.path, image.mask_path) if path]
    return _hash_of_stats(category_dir, [*paths, *(path.name for path in category_dir.glob(ROI))])


def _hash_of_stats(folder: Path, names: Sequence[str]) -> str:
    stats = [(name, (folder / name).stat()) for name in names]
    return hash_of([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])
