"""Pipelines on this machine, by KFP's own local engine: same components, same graph, a process per task.

Or a container per task, of the image that a cluster runs.

What the engine does otherwise than a cluster, and what is done about it:
- it cannot run a task after one that failed: the page of all categories is written here, from the rows that came;
- it knows no GPUs, limits, secrets or volumes: tasks see this process's environment and files, containers what
  `containers.py` gives them;
- it retries without the checkpoint's machine being gone: nothing is retried, the same command goes on where it was;
- its cache knows no code: the image's name holds the hash of ours.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.pipelines.containers import containers_removed, find_image, run_arguments

if TYPE_CHECKING:
    from ndpnet.batch.plan import InspectionRequest
    from ndpnet.config import Params
    from ndpnet.data.versions.version import DataSource

PAGE, OUTPUT = "overview.html", "executor_output.json"


def run_locally(
    params: "Params",
    source: "DataSource",
    out_dir: Path,
    *,
    work_dir: str,
    categories: list[str],
    in_containers: bool = False,
) -> dict[str, Any]:
    """Run the whole pipeline. -> has_failed, page_path, rows: one per category, promotions: what the gate said.

    Finished tasks are reused, a killed training goes on: run the same again. in_containers: of the image
    `cluster.image`, else of the one that `make image` builds of this commit. ValueError: nothing to run.
    """
    from ndpnet.data.versions.fetching import resolve
    from ndpnet.locks import locked
    from ndpnet.storage.urls import is_on_s3

    work_dir = work_dir if is_on_s3(work_dir) else str(Path(work_dir).resolve())
    resolved = resolve(source)
    chosen = list(categories) or list(resolved.counts())
    for category in chosen:
        resolved.category_hash(category)  # refuses one that is not there, before anything runs
    job = _job(params, resolved.source, Path(out_dir).resolve(), work_dir, chosen, in_containers)
    busy = f"another process runs this very pipeline in {job['run_dir']} (wait for it)"
    with (
        locked(job["run_dir"], busy, is_folder=True),  # what is collected would else be the other one's
        containers_removed(job["run_id"]) if in_containers else nullcontext(),
    ):
        has_failed = not run_engine(job)
        return {"has_failed": has_failed} | _collected(job["run_dir"], Path(out_dir) / PAGE, chosen)


def inspect_locally(params: "Params", request: "InspectionRequest", out_dir: Path) -> dict[str, Any]:
    """Run a batch inspection. -> its summary. ValueError: it did not get so far.

    Finished shards are reused: run the same again.
    """
    from ndpnet.batch.summary import read_summary

    arguments = asdict(request)
    if not run_engine(engine_job("ndpnet-inspection", params, arguments, Path(out_dir).resolve(), named=[arguments])):
        raise ValueError("a task failed (see above; the same command goes on with what is missing)")
    return read_summary(request.out)


def _job(
    params: "Params", source: "DataSource", out_dir: Path, work_dir: str, categories: list[str], in_containers: bool
) -> dict[str, Any]:
    """Of a training. source: resolved."""
    from ndpnet.config_platform import cluster_of
    from ndpnet.storage.urls import is_on_s3
    from ndpnet.tracking.identity import run_identity

    image, digest = find_image(cluster_of(params).image, run_identity()) if in_containers else (None, "")
    arguments: dict[str, Any] = {"params": params.training_json(), "judging_params": params.to_json()}
    arguments |= {"work_dir": work_dir, "categories": categories, "source": source.to_json()}
    named = [params.to_json(), categories, source.version]
    job = engine_job("ndpnet-training", params, arguments, out_dir, named=named, image=image)
    if image:
        folders = [out_dir] if is_on_s3(work_dir) else [out_dir, Path(work_dir)]
        job["container"] = run_arguments(params, source, digest=digest, run_id=job["run_id"], folders=folders)
    return job


def engine_job(
    pipeline: str,
    params: "Params",
    arguments: dict[str, Any],
    out_dir: Path,
    *,
    named: list[Any],
    image: str | None = None,
) -> dict[str, Any]:
    """All that the engine's process is told, and the environment of the tasks; tasks are processes of this Python.

    named: what makes a run the same one, beside the code; image: its name where tasks are containers.
    """
    from ndpnet.config_platform import cluster_of
    from ndpnet.files import hash_of
    from ndpnet.lineage import sources_hash
    from ndpnet.tracking.identity import run_identity

    code = image or f"python-ndpnet:{sources_hash()[:16]}"
    run_id = f"local-{hash_of([*named, code, run_identity()['git_commit']])[:16]}"
    one_by_one = {"num_retries": 0, "parallel_categories": 1, "parallel_shards": 1}
    cluster = cluster_of(params).model_dump() | {"image": code, **one_by_one}
    return {
        "pipeline": pipeline,
        "settings": params.model_copy(update={"cluster": cluster}).model_dump_json(),
        "arguments": arguments,
        "run_id": run_id,
        "run_dir": out_dir / run_id,
        "cache_dir": out_dir / "cache",
        "environment": {"NDPNET_KFP_RUN_ID": run_id},
        "container": None,
    }


def run_engine(job: dict[str, Any]) -> bool:
    """Run the engine in a process of its own; what it says goes to standard error. -> whether every task succeeded"""
    job["run_dir"].mkdir(parents=True, exist_ok=True)
    engine = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "ndpnet.pipelines.local_engine"],
        stdin=subprocess.PIPE,
        text=True,
        env={**os.environ, **job["environment"]},
        stdout=sys.stderr.fileno(),
        start_new_session=True,  # the group of its tasks, that ends with it
    )
    try:
        engine.communicate(json.dumps(job, default=str))
    except KeyboardInterrupt:
        os.killpg(engine.pid, signal.SIGINT)
        engine.wait()
        raise
    return engine.returncode == 0


def _collected(run_dir: Path, page_path: Path, categories: list[str]) -> dict[str, Any]:
    """Rows and decisions of the newest run in the folder; writes the page of all categories."""
    from ndpnet.evaluation.overview import complete, write_overview

    newest = max((path for path in run_dir.iterdir() if path.is_dir()), key=lambda path: path.name, default=run_dir)
    outputs = [json.loads(path.read_text(encoding="utf-8")) for path in newest.glob(f"**/category-row/{OUTPUT}")]
    rows = complete([json.loads(output["parameterValues"]["Output"]) for output in outputs], categories)
    paths = sorted(newest.glob("**/promote/promotion/promotion.json"))
    promotions = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    write_overview(page_path, [_linked(row, page_path.parent) for row in rows])
    return {"page_path": page_path, "rows": rows, "promotions": promotions}


def _linked(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The row with addresses that hold from a page in the folder."""
    return row | {name: os.path.relpath(place, folder) for name, place in row.get("places", {}).items()}
