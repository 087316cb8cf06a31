"""The process in which KFP's local engine runs the pipeline; its job comes as JSON on standard input."""

import json
import logging
import sys

from kfp import local

from pipelines.training import training_pipeline


def main() -> None:
    """Run the job."""
    from ndpnet.config import parse_params

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)  # else a reused task is not named
    job = json.load(sys.stdin)
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=job["run_dir"],
        enable_caching=True,
        cache_root=job["cache_dir"],
    )
    training_pipeline(parse_params(job["settings"]), is_local=True)(**job["arguments"])


if __name__ == "__main__":
    main()
