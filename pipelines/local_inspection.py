"""The batch inspection on this machine, by KFP's own local engine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.pipelines.local import LOG, EngineRun, TaskEvent, engine_job, follow_engine

if TYPE_CHECKING:
    from ndpnet.config import Params


@dataclass
class LocalInspection(EngineRun):
    """What came out: the summary, none if it did not get so far."""

    summary: dict[str, Any] | None = None


def inspect_locally(
    params: "Params", arguments: dict[str, Any], out_dir: Path
) -> Iterator[TaskEvent | LocalInspection]:
    """Run a batch inspection with these arguments; yields what happens to each task, and at last the LocalInspection.

    Finished shards are reused: run the same again.
    """
    from ndpnet.batch.summary import read_summary

    job = engine_job("ndpnet-inspection", params, arguments, Path(out_dir).resolve(), named=[arguments])
    run = LocalInspection(log_path=job["run_dir"] / LOG)
    yield from follow_engine(job, run)
    if not run.failed_tasks:
        run.summary = read_summary(arguments["out"], endpoint_url=arguments["endpoint_url"] or None)
    yield run
