"""The process in which KFP's local engine runs a pipeline; its job comes as JSON on standard input."""

import json
import logging
import sys
from typing import Any

from kfp import local

from ndpnet.pipelines import training
from ndpnet.pipelines.compile import PIPELINES


def _runner(container: dict[str, Any] | None) -> local.SubprocessRunner | local.DockerRunner:
    """Processes of this environment, or containers with these arguments."""
    if container is None:
        return local.SubprocessRunner(use_venv=False)
    from docker.types import Mount

    return local.DockerRunner(**container | {"mounts": [Mount(**mount) for mount in container["mounts"]]})


def main() -> None:
    """Run the job."""
    from ndpnet.commands import end_with_parent
    from ndpnet.config import parse_params

    end_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)  # else a reused task is not named
    job = json.load(sys.stdin)
    local.init(
        runner=_runner(job["container"]),
        pipeline_root=job["run_dir"],
        enable_caching=True,
        cache_root=job["cache_dir"],
    )
    options = {"is_local": True} if job["pipeline"] == training.NAME else {}
    PIPELINES[job["pipeline"]](parse_params(job["settings"]), **options)(**job["arguments"])


if __name__ == "__main__":
    main()
