"""The batch inspection on this machine, by KFP's own local engine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.pipelines.local import engine_job, run_engine

if TYPE_CHECKING:
    from ndpnet.config import Params


def inspect_locally(params: "Params", arguments: dict[str, Any], out_dir: Path) -> dict[str, Any]:
    """Run a batch inspection with these arguments. -> its summary. ValueError: it did not get so far.

    Finished shards are reused: run the same again.
    """
    from ndpnet.batch.summary import read_summary

    job = engine_job("ndpnet-inspection", params, arguments, Path(out_dir).resolve(), named=[arguments])
    if not run_engine(job):
        raise ValueError("a task failed (see above; the same command goes on with what is missing)")
    return read_summary(arguments["out"], endpoint_url=arguments["endpoint_url"] or None)
