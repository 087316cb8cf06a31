"""Following a run to its end: what its tasks do, how it ended, and what the task that failed had to say."""

import logging
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.client import Cluster, ClusterError, LostError

if TYPE_CHECKING:
    from kfp_server_api import V2beta1PipelineTaskDetail, V2beta1Run

EXIT_CODES = {"SUCCEEDED": 0, "SKIPPED": 0, "FAILED": 1, "CANCELED": 3}
LOG_ROUTE = "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log"  # KFP has no newer one
LOG_LINES, LOG_LINE_BYTES = 40, 500
AWAY_SECONDS = 900.0  # a run goes on while its server restarts
POD = re.compile(r"executor(\(\d+\))?")  # KFP's name for the pod that does a task's work; (N) counts its attempts
# KFP's own, and groups of tasks that have no name of their author's
HIDDEN = re.compile(
    r".*-driver(\(\d+\))?|root|(for-loop|condition(-branches)?|exit-handler)-\d+.*"
    r"|iteration-item|iteration-iterations(\(\d+:[^()]*\))?"
)
ITERATION = re.compile(r"\((\d+)(?::[^()]*)?\)$")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """One task of a run. seconds: that it has taken so far; node_id: of the pod that does, or did, its work."""

    name: str
    state: str
    seconds: float
    node_id: str

    def __str__(self) -> str:
        """For people."""
        took = f" {_clock(self.seconds)}" if self.seconds else ""
        return f"{self.name}: {self.state.lower()}{took}"


@dataclass(frozen=True)
class Outcome:
    """How a run ended; of a failed one the tasks that failed, and the end of the first one's log."""

    state: str
    error: str = ""
    failed: tuple[Task, ...] = ()
    log: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: succeeded, 1: failed, 3: canceled."""
        return EXIT_CODES[self.state]


Show = Callable[[str, list[Task]], None]  # called with the run's state and its tasks after every look


def follow(cluster: Cluster, run_id: str, show: Show, *, poll_seconds: float = 5.0) -> Outcome:
    """Look at a run until it is over; a server that is away for a while is waited for. ClusterError: refused."""
    last_seen = time.monotonic()
    while True:
        try:
            run = cluster.ask(cluster.client.runs.run_service_get_run, run_id)
        except LostError as error:
            if time.monotonic() - last_seen > AWAY_SECONDS:
                raise
            logger.warning("%s; the run goes on meanwhile", error)
        else:
            last_seen = time.monotonic()
            tasks = tasks_of(run)
            show(run.state or "PENDING", tasks)
            if run.state in EXIT_CODES:
                return _outcome(cluster, run, tasks)
        time.sleep(poll_seconds)


def tasks_of(run: "V2beta1Run") -> list[Task]:
    """The tasks of a run as its author knows them, in the order in which they began."""
    details = (run.run_details.task_details if run.run_details else None) or []
    parents = _parents(details)
    whole = parents.get(next((each.pod_name for each in details if each.display_name == "root-driver"), None))
    named: dict[str, list[V2beta1PipelineTaskDetail]] = {}
    for detail in sorted(details, key=lambda each: _time(each.start_time or each.create_time)):
        name = _name(detail, parents) if detail is not whole else None
        if name is not None:
            named.setdefault(name, []).append(detail)
    return [_task(name, found) for name, found in named.items()]


def read_log(cluster: Cluster, run_id: str, node_id: str) -> tuple[str, ...]:
    """The last lines of what a task printed. ClusterError: the server has no log of it."""
    return cluster.read(LOG_ROUTE, _last_lines, run_id=run_id, node_id=node_id)


def format_outcome(outcome: Outcome) -> list[str]:
    """What there is to say of a run that is over, line by line."""
    lines = [f"run {outcome.state.lower()}" + (f": {outcome.error}" if outcome.error else "")]
    lines += [f"failed task: {task}" for task in outcome.failed]
    if outcome.log:
        lines += [f"--- end of the log of {outcome.failed[0].name}", *outcome.log, "---"]
    return lines


def _outcome(cluster: Cluster, run: "V2beta1Run", tasks: list[Task]) -> Outcome:
    error = " ".join((run.error.message or "").split()) if run.error else ""
    failed = tuple(task for task in tasks if task.state == "FAILED")
    if run.state != "FAILED" or not failed:
        return Outcome(run.state, error)
    try:
        log = read_log(cluster, run.run_id, failed[0].node_id)
    except ClusterError as problem:
        log = (f"(no log of it: {problem})",)
    return Outcome(run.state, error, failed, log or ("(its log is empty)",))


def _last_lines(response: Any) -> tuple[str, ...]:
    """The end of a text that may be long, or all one line."""
    lines: deque[bytes] = deque([b""], maxlen=2 * LOG_LINES)
    for chunk in response.stream(1 << 16):
        first, *others = chunk.split(b"\n")
        lines[-1] = (lines[-1] + first)[-LOG_LINE_BYTES:]
        lines.extend(line[-LOG_LINE_BYTES:] for line in others)
    texts = [line.decode(errors="replace").rstrip() for line in lines]
    while texts and not texts[-1]:
        texts.pop()
    return tuple(texts[-LOG_LINES:])


def _parents(details: "list[V2beta1PipelineTaskDetail]") -> "dict[str, V2beta1PipelineTaskDetail]":
    """What each node hangs on, by the ids of nodes and tasks."""
    by_id = {detail.task_id: detail for detail in details}
    parents = {}
    for detail in details:
        for child in detail.child_tasks or ():
            parents.setdefault(child.pod_name or child.task_id, detail)
        if detail.parent_task_id in by_id:
            parents.setdefault(detail.pod_name, by_id[detail.parent_task_id])
    return parents


def _name(detail: "V2beta1PipelineTaskDetail", parents: "dict[str, V2beta1PipelineTaskDetail]") -> str | None:
    """A task's name, with the number of its iteration in a loop; None for what is KFP's own and has not failed."""
    name, node, seen = detail.display_name or "", detail, set()
    if HIDDEN.fullmatch(name):
        return name if detail.state == "FAILED" and name.endswith("-driver") else None
    iteration = ""
    while node is not None and id(node) not in seen:
        seen.add(id(node))
        if POD.fullmatch(name):
            name = node.display_name or ""
        found = ITERATION.search(node.display_name or "") if not POD.fullmatch(node.display_name or "") else None
        if found and not iteration:
            iteration = f"[{found[1]}]"
        node = parents.get(node.pod_name) or parents.get(node.task_id)
    return f"{name}{iteration}"


def _task(name: str, found: "list[V2beta1PipelineTaskDetail]") -> Task:
    """One task of all that has its name: its state is the group's, its pod the last that began."""
    pod = next((each for each in reversed(found) if POD.fullmatch(each.display_name or "")), found[-1])
    whole = next((each for each in found if not POD.fullmatch(each.display_name or "")), pod)
    start = _time(whole.start_time or whole.create_time)
    end = _time(whole.end_time) if _time(whole.end_time) > start else datetime.now(UTC).timestamp()
    seconds = end - start if start else 0.0
    return Task(name, whole.state or "PENDING", seconds, pod.pod_name or pod.task_id or "")


def _time(moment: datetime | None) -> float:
    """Seconds since 1970; 0 where there is none: a server writes year 1 or 1970 for what has not come yet."""
    if moment is None:
        return 0.0
    return max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), 0.0)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
