"""What a step's process leaves on disk of its run, so that it can be delivered by this process or by any later one.

Beside a step's output `OUT` lies a folder `.OUT.run/KEY/`: run.json (who ran what, and how it ended), the history,
a link while a training writes it, and copies of the small files that are delivered. Not in the output, whose bytes must
not depend on who made them; and copies, since DVC removes or replaces outputs before anything can be delivered late. A
run is found by its plan (the pipeline's run) and its key (this step on these inputs).
"""

import json
import logging
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ndpnet import __version__
from ndpnet.config import Params, parse_params
from ndpnet.data.manifest import GOOD, SPLITS, Manifest
from ndpnet.files import hash_of, replace_file, sha256_of, write_json, write_text
from ndpnet.lineage import code_hash, params_hash, sources_hash
from ndpnet.locks import is_held
from ndpnet.redaction import redact
from ndpnet.tracking.flat import flat_metrics, flat_params

RUN, HISTORY, FILES, PICTURES = "run.json", "history.jsonl", "files", "pictures"
MAX_FILE_BYTES = 32 << 20  # larger ones stay in the step's output: weights, arrays
KEY_DIGITS = 12

NO_RESULTS = ("step", "lr", "format_version")  # of a history's last row, of a bank's description
KFP_RUN, COMMIT = "ndpnet.kfp_run_id", "ndpnet.git_commit"
# what a step's output has to show: its history, and the small files that are kept, as patterns
KEPT: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "version-data": (None, ("version.json", "resolved.json")),
    "prepare": (None, ("manifest.json", "prepared.json")),
    "synthesize": (None, ("bank.json",)),
    "train-phase1": (HISTORY, ("phase1.json",)),
    "train-phase2": ("history_phase2.jsonl", ("config.json", "reference.png")),
    "evaluate": (None, ("[!.]*", "overlays/*")),
}

Status = Literal["running", "finished", "failed", "killed"]
logger = logging.getLogger(__name__)


@dataclass
class Record:
    """One execution of a step: same key = same step, parameters, code and inputs."""

    key: str
    plan: str
    step: str
    category: str
    params: dict[str, str]
    tags: dict[str, str]
    inputs: dict[str, str]  # name -> folder
    started_at: int  # milliseconds
    title: str = ""  # of the pipeline's run
    status: Status = "running"
    ended_at: int | None = None
    error: str = ""
    results: dict[str, float] = field(default_factory=dict)
    dataset: dict[str, Any] | None = None
    source: dict[str, str] = field(default_factory=dict)  # where a version of the data comes from
    attempts: int = 1
    is_delivered: bool = False
    folder: Path = field(default_factory=Path, repr=False)  # locked by the process that runs it

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.step} {self.category}".strip()

    def is_alive(self) -> bool:
        """Whether the process that started it is still at work; a killed one lets go of its lock."""
        return self.status == "running" and bool(is_held(self.folder))

    def end(self, status: Status, error: str = "") -> None:
        """Note how it ended, now."""
        self.status, self.error, self.ended_at = status, error, int(time.time() * 1000)

    def save(self) -> None:
        """Write it, whole or not at all."""
        values = asdict(self)
        del values["folder"]
        write_json(self.folder / RUN, values)

    def mark_delivered(self) -> None:
        """Note that the server has all of it; the copies are no longer needed."""
        self.is_delivered = True
        self.save()
        (self.folder / HISTORY).unlink(missing_ok=True)
        for name in (FILES, PICTURES):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def is_plan(text: str) -> bool:
    """Whether a text can name a plan: a KFP run's id, or a hash; nothing that could change a search on the server."""
    return bool(re.fullmatch(r"[\w.-]{1,200}", text))


def runs_dir(out: Path) -> Path:
    """Where the runs that made an output are noted."""
    out = Path(out).resolve()
    return out.with_name(f".{out.name}.run")


def load_record(path: Path) -> Record | None:
    """A record from its run.json; None where it cannot be read."""
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")), folder=path.parent)
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s is not the record of a run: %s", path, type(error).__name__)
        return None


def records_of(out: Path) -> list[Record]:
    """All runs that are noted of an output."""
    return _load_all(runs_dir(out).glob(f"*/{RUN}"))


def records_below(folder: Path, *, is_deep: bool = True) -> list[Record]:
    """All runs noted of the outputs in a folder, or in one anywhere below it; oldest first."""
    pattern = f".*.run/*/{RUN}"
    records = _load_all(folder.rglob(pattern) if is_deep else folder.glob(pattern))
    return sorted(records, key=lambda record: record.started_at)


def remove_superseded(out: Path, key: str) -> None:
    """Forget earlier runs of an output that the server has."""
    for record in records_of(out):
        if record.key != key and record.is_delivered and not record.is_alive():
            shutil.rmtree(record.folder, ignore_errors=True)


def new_record(
    step: str,
    category: str,
    *,
    out: Path,
    identity: Mapping[str, str],
    params: Params | str | None = None,
    inputs: Mapping[str, Path] | None = None,
    source: Mapping[str, str] | None = None,
) -> Record:
    """The record of a step that starts now, or goes on where it was killed.

    category: that of the input `prepared` if left out; inputs: the folders that it reads, by name; source: where a
    version of the data comes from.
    """
    params, inputs = parse_params(params) if params else None, inputs or {}
    dataset = _data_of_prepared(step, inputs)
    category = category or (dataset["name"] if dataset else "")
    values = params.model_dump(mode="json", exclude={"cluster"}) if params else {}
    tags = _tags(step, params, identity)
    sources = sources_hash()
    plan = _plan(values, sources, tags)
    what = {name: _identity_of(Path(folder)) for name, folder in inputs.items()}
    source = {name: redact(str(value)) for name, value in (source or {}).items() if value}
    key = hash_of([plan, step, category, values, sources, what, source])
    folder = runs_dir(out) / key[:KEY_DIGITS]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder.with_name(".gitignore"), "*\n")
    earlier = load_record(folder / RUN) if (folder / RUN).exists() else None
    record = Record(
        key=key,
        plan=plan,
        step=step,
        category=category,
        params={name: redact(value) for name, value in flat_params(values).items()},
        tags=tags,
        inputs={name: str(Path(path).resolve()) for name, path in inputs.items()},
        started_at=int(time.time() * 1000),
        title=" ".join(part for part in (values.get("profile"), tags.get(COMMIT, "")[:8], plan[:8]) if part),
        dataset=dataset,
        source=source,
        folder=folder,
    )
    if earlier:
        record.attempts = earlier.attempts + 1
        record.started_at = record.started_at if earlier.status == "finished" else earlier.started_at
    return record


def finish(record: Record, out: Path, result: Mapping[str, Any]) -> None:
    """Note what a step returned, that it ended well, and the data that it made; copy what is to be delivered."""
    _keep_files(record, out)
    record.results = flat_metrics({name: value for name, value in result.items() if name not in NO_RESULTS})
    timing = out / "timing.json"
    if timing.is_file():
        record.results |= flat_metrics(json.loads(timing.read_text(encoding="utf-8")))
    if record.step == "prepare":
        source = record.source or {"uri": record.inputs.get("data", "")}
        record.dataset = _data_of_prepared(record.step, {"prepared": out}, source)
    elif record.step == "version-data":
        record.dataset = _data_of_version(result, record.source)
    record.end("finished")


def _keep_files(record: Record, out: Path) -> None:
    """Files beyond MAX_FILE_BYTES are left out, and named in the log."""
    history, patterns = KEPT.get(record.step, (None, ()))
    if history and (out / history).is_file():
        replace_file(record.folder / HISTORY, (out / history).read_bytes())
    kept_dir = record.folder / FILES
    shutil.rmtree(kept_dir, ignore_errors=True)
    for path in sorted({path for pattern in patterns for path in out.glob(pattern) if path.is_file()}):
        if path.stat().st_size > MAX_FILE_BYTES:
            logger.info("%s is too large for the tracking server: it stays where it is", path)
        else:
            replace_file(kept_dir / path.relative_to(out), path.read_bytes())


def _plan(values: dict[str, Any], sources: str, tags: Mapping[str, str]) -> str:
    """The KFP run, else the hash of parameters, commit and code: what all steps of one `dvc repro` share."""
    run = tags.get(KFP_RUN, "")
    if is_plan(run):
        return run
    return hash_of([run, values, tags.get(COMMIT, ""), sources])


def _tags(step: str, params: Params | None, identity: Mapping[str, str]) -> dict[str, str]:
    tags = {f"ndpnet.{key}": redact(str(value)) for key, value in identity.items() if value}
    tags |= {"ndpnet.version": __version__, "ndpnet.code_hash": code_hash()}
    if params:
        tags |= {"ndpnet.params_hash": params_hash(params), "ndpnet.profile": params.profile}
    tags |= {"mlflow.source.name": f"ndpnet {step}", "mlflow.source.type": "JOB" if KFP_RUN in tags else "LOCAL"}
    if re.fullmatch(r"[0-9a-f]{7,64}", tags.get(COMMIT, "")):
        tags["mlflow.source.git.commit"] = tags[COMMIT]
    return tags


def _identity_of(folder: Path) -> list[Any]:
    """Names and sizes of an input's files, and the hashes of those that say what the others are."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [[path.relative_to(folder).as_posix(), path.stat().st_size] for path in paths]
    described = [path for path in paths if path.parent == folder and path.suffix in (".json", ".jsonl")]
    return [sizes, [[path.name, sha256_of(path)] for path in described]]


def _data_of_prepared(
    step: str, inputs: Mapping[str, Path], source: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """The data set of a prepared folder; it comes from where `prepare` had it, if that is known here."""
    folder = inputs.get("prepared")
    if folder is None or not (Path(folder) / "manifest.json").is_file():
        return None
    manifest = Manifest.load(Path(folder) / "manifest.json")
    earlier = [record.dataset for record in records_of(Path(folder)) if record.dataset and record.step == "prepare"]
    same = [data["source"] for data in earlier if data["digest"] == manifest.data_hash]
    counts = {f"num_{split}": len(manifest.records(split)) for split in SPLITS}
    counts["num_test_defective"] = sum(record.defect_type != GOOD for record in manifest.records("test"))
    return {
        "name": manifest.category,
        "digest": manifest.data_hash,
        "source_type": "local",
        "source": dict(source) if source else (same or [{"uri": str(folder)}])[0],
        "profile": {"data_hash": manifest.data_hash, **counts},
        "context": {"prepare": "preparation", "evaluate": "evaluation"}.get(step, "training"),
    }


def _data_of_version(result: Mapping[str, Any], source: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": "data",
        "digest": result.get("data_hash") or result["version"],
        "source_type": "git" if source.get("url") else "s3",
        "source": dict(source),
        "profile": {key: value for key, value in result.items() if isinstance(value, int | float | str | dict)},
        "context": "preparation",
    }


def _load_all(paths: Iterable[Path]) -> list[Record]:
    return [record for path in sorted(paths) if (record := load_record(path)) is not None]
