"""What a run is: its plan (the pipeline's run), its key (this step on these inputs), its tags and its data."""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ndpnet import __version__
from ndpnet.config import Params, parse_params
from ndpnet.data.manifest import GOOD, SPLITS, Manifest
from ndpnet.files import hash_of, sha256_of
from ndpnet.lineage import code_hash, params_hash, sources_hash
from ndpnet.redaction import redact
from ndpnet.tracking.flat import flat_metrics, flat_params
from ndpnet.tracking.record import HISTORY, RUN, Record, is_plan, load_record, new_folder, records_of

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
    folder = new_folder(out, key)
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


def add_results(record: Record, out: Path, result: Mapping[str, Any]) -> None:
    """Note what a step returned: numbers, text, and the data that it made."""
    record.results = flat_metrics({name: value for name, value in result.items() if name not in NO_RESULTS})
    timing = out / "timing.json"
    if timing.is_file():
        record.results |= flat_metrics(json.loads(timing.read_text(encoding="utf-8")))
    for name, value in result.items():
        if isinstance(value, str | bool):
            record.tags[f"ndpnet.result.{name}"] = redact(json.dumps(value) if isinstance(value, bool) else value)
    if record.step == "prepare":
        source = record.source or {"uri": record.inputs.get("data", "")}
        record.dataset = _data_of_prepared(record.step, {"prepared": out}, source)
    elif record.step == "version-data":
        record.dataset = _data_of_version(result, record.source)


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
