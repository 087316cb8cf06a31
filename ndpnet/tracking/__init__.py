"""What was run, in MLflow: runs and registered models. Importing this loads no MLflow."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.tracking.client import has_server, is_off

if TYPE_CHECKING:
    from ndpnet.config import Params
    from ndpnet.tracking.live import LiveRun

logger = logging.getLogger(__name__)


class StepRun:
    """What a step's adapter sees of its run."""

    def __init__(self, live: "LiveRun | None") -> None:
        self.pictures_dir: Path | None = live.pictures_dir if live else None  # for pictures of the validation
        self.returned: Mapping[str, Any] | None = None

    def result(self, returned: dict[str, Any]) -> dict[str, Any]:
        """Note what the step returned. -> the same"""
        self.returned = returned
        return returned


def champion_of(category: str) -> dict[str, Any] | None:
    """The champion's `version` and `summary` (its metrics.json); None where there is none, or none can be read."""
    if is_off() or not has_server():
        return None
    from ndpnet.tracking.models import champion_summary

    try:
        return champion_summary(category)
    except (ValueError, OSError) as error:
        logger.info("the report shows no champion: %s", error)
        return None


@contextmanager
def step_run(
    step: str,
    category: str = "",
    *,
    out: Path,
    params: "Params | None" = None,
    inputs: Mapping[str, Path] | None = None,
    work_dir: Path | None = None,
    identity: Callable[[], Mapping[str, str]] = dict,
    source: Mapping[str, Any] | None = None,
) -> Iterator[StepRun]:
    """Track the step that runs in this block: a run that ends as the block does. Where tracking is off: nothing.

    category: that of the input `prepared` if left out; inputs: the folders it reads, by name; identity: commit, lock
    file, image, KFP run, asked for once; source: where a version of the data comes from. No error of the tracking
    server comes out of here.
    """
    if is_off():
        yield StepRun(None)
        return
    from ndpnet.tracking.live import start_run

    live = start_run(
        step,
        category,
        params=params,
        inputs=inputs or {},
        out=Path(out),
        work_dir=work_dir,
        identity=identity(),
        source=source or {},
    )
    run = StepRun(live)
    try:
        yield run
    except BaseException as error:
        if live:
            live.end(None, error)
        raise
    if live:
        live.end(run.returned, None)
