"""A server that speaks KFP's REST calls as far as this project uses them, by the models of kfp-server-api.

Faults are injected by rule; runs go through states that a test writes down. State is in memory.
"""

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api
from http_servers import Answer, Request, serving
from kfp_server_api import (
    V2beta1Experiment,
    V2beta1ListExperimentsResponse,
    V2beta1ListRecurringRunsResponse,
    V2beta1PipelineTaskDetail,
    V2beta1RecurringRun,
    V2beta1Run,
    V2beta1RunDetails,
)

API = kfp_server_api.ApiClient()


class RefusedError(Exception):
    """An answer with an error status, and its message."""


@dataclass(frozen=True)
class Snapshot:
    """A run at one look: its state, and that of its tasks by name."""

    state: str
    tasks: dict[str, str] = field(default_factory=dict)
    error: str = ""


@dataclass
class Fault:
    """What goes wrong with calls whose "METHOD /path" matches, `times` times.

    hang: seconds without an answer. is_late: the call does its work first, only its answer is lost.
    """

    pattern: str
    status: int = 0
    hang: float = 0.0
    times: int = 1
    is_late: bool = False
    page: str = ""  # a page of HTML instead of JSON, as a login has


class KfpServer:
    """One server on a free port of this machine."""

    def __init__(self) -> None:
        self.token, self.is_multi_user = "", False
        self.experiments: dict[str, V2beta1Experiment] = {}
        self.runs: dict[str, V2beta1Run] = {}
        self.recurring_runs: dict[str, V2beta1RecurringRun] = {}
        self.scripts: dict[str, Iterator[Snapshot]] = {}
        self.next_script: list[Snapshot] = [Snapshot("PENDING")]
        self.faults: list[Fault] = []
        self.calls: list[str] = []  # "METHOD /path"
        self._lock = threading.RLock()
        self.url = ""  # where clients find it, while it runs

    @contextmanager
    def running(self) -> Iterator["KfpServer"]:
        """Serve while the block runs."""
        with serving(self.answer) as address:
            self.url = f"http://{address}"
            yield self

    # ---- answering

    def answer(self, request: Request) -> Answer:
        """Answer one request."""
        method, _, target = request.line.partition(" ")
        parts = urlsplit(target)
        call = f"{method} {unquote(parts.path)}"
        with self._lock:
            self.calls.append(call)
            fault = next((each for each in self.faults if each.times and re.fullmatch(each.pattern, call)), None)
            if fault:
                fault.times -= 1
        if fault and not fault.is_late:
            return self._fail(fault)
        with self._lock:
            answer = self._answer_well(call, parse_qs(parts.query), request.headers, request.body)
        return self._fail(fault) if fault else answer

    def _fail(self, fault: Fault) -> Answer:
        time.sleep(fault.hang)
        if fault.page:
            return Answer(200, fault.page.encode(), {"Content-Type": "text/html"})
        return _error(fault.status or 500, "injected failure")

    def _answer_well(self, call: str, query: Any, headers: Any, body: bytes) -> Answer:
        query = {name: values[0] for name, values in query.items()}
        try:
            if self.token and headers.get("authorization") != f"Bearer {self.token}":
                raise RefusedError(401, "Unauthenticated")
            for pattern, handle in self._routes().items():
                match = re.fullmatch(pattern, call)
                if match:
                    result = handle(*match.groups(), query=query, headers=headers, body=body)
                    return Answer(200, json.dumps(API.sanitize_for_serialization(result)).encode())
            raise RefusedError(404, f"no route {call}")
        except RefusedError as error:
            return _error(*error.args)

    def _routes(self) -> dict[str, Callable[..., Any]]:
        v2 = "/apis/v2beta1"
        one = r"([^/:]+)"
        return {
            f"GET {v2}/healthz": self._health,
            f"GET {v2}/experiments": self._list_experiments,
            f"POST {v2}/experiments": self._create_experiment,
            f"POST {v2}/runs": self._create_run,
            f"GET {v2}/runs/{one}": self._get_run,
            f"GET {v2}/recurringruns": self._list_recurring_runs,
            f"POST {v2}/recurringruns": self._create_recurring_run,
            f"DELETE {v2}/recurringruns/{one}": self._delete_recurring_run,
        }

    def _health(self, **_: Any) -> dict[str, Any]:
        # more than its client's model has
        more = {"commit_sha": "0", "pipeline_store": "database"}
        return more | {"tag_name": "2.17.0", "multi_user": self.is_multi_user}

    # ---- experiments and runs

    def _list_experiments(self, *, query: Any, **_: Any) -> Any:
        self._check_namespace(query.get("namespace"))
        found = [each for each in self.experiments.values() if (each.namespace or "") == query.get("namespace", "")]
        return self._page(V2beta1ListExperimentsResponse, "experiments", found, query)

    def _create_experiment(self, *, body: bytes, **_: Any) -> V2beta1Experiment:
        experiment = API.deserialize(SimpleNamespace(data=body), "V2beta1Experiment")
        self._check_namespace(experiment.namespace)
        if any(each.display_name == experiment.display_name for each in self.experiments.values()):
            raise RefusedError(409, f"The experiment {experiment.display_name} already exist")
        experiment.experiment_id = str(uuid.uuid4())
        self.experiments[experiment.experiment_id] = experiment
        return experiment

    def _create_run(self, *, body: bytes, **_: Any) -> V2beta1Run:
        run = API.deserialize(SimpleNamespace(data=body), "V2beta1Run")
        self._check_references(run)
        run.run_id, run.state = str(uuid.uuid4()), "PENDING"
        self.runs[run.run_id] = run
        self.scripts[run.run_id] = iter(self.next_script)
        return run

    def _get_run(self, run_id: str, **_: Any) -> V2beta1Run:
        if run_id not in self.runs:
            raise RefusedError(404, f"Run {run_id} not found")
        snapshot = next(self.scripts.get(run_id, iter(())), None)
        if snapshot:
            self._apply(self.runs[run_id], snapshot)
        return self.runs[run_id]

    def _apply(self, run: V2beta1Run, snapshot: Snapshot) -> None:
        run.state = snapshot.state
        run.error = kfp_server_api.GoogleRpcStatus(code=2, message=snapshot.error) if snapshot.error else None
        details = [each for name, state in snapshot.tasks.items() for each in _nodes_of(name, state)]
        run.run_details = V2beta1RunDetails(task_details=details)

    # ---- recurring runs

    def _list_recurring_runs(self, *, query: Any, **_: Any) -> Any:
        return self._page(V2beta1ListRecurringRunsResponse, "recurring_runs", self.recurring_runs.values(), query)

    def _create_recurring_run(self, *, body: bytes, **_: Any) -> V2beta1RecurringRun:
        recurring = API.deserialize(SimpleNamespace(data=body), "V2beta1RecurringRun")
        self._check_references(recurring)
        if not 1 <= int(recurring.max_concurrency or 0) <= 10:
            raise RefusedError(400, "max_concurrency must be within 1 and 10")
        cron = recurring.trigger.cron_schedule
        if cron and len(cron.cron.split()) != 6:
            raise RefusedError(400, f"Schedule cron is not a valid schedule: {cron.cron}")
        recurring.recurring_run_id = str(uuid.uuid4())
        recurring.max_concurrency = str(recurring.max_concurrency)
        self.recurring_runs[recurring.recurring_run_id] = recurring
        return recurring

    def _delete_recurring_run(self, recurring_run_id: str, **_: Any) -> dict[str, Any]:
        if recurring_run_id not in self.recurring_runs:
            raise RefusedError(404, f"{recurring_run_id} not found")
        del self.recurring_runs[recurring_run_id]
        return {}

    # ---- common to all

    def _check_references(self, run: Any) -> None:
        if run.experiment_id not in self.experiments:
            raise RefusedError(404, f"Experiment {run.experiment_id} not found")
        spec = run.pipeline_spec.get("pipeline_spec", run.pipeline_spec)  # with Kubernetes options there are two
        if not {"pipelineInfo", "root"} <= spec.keys():
            raise RefusedError(400, "Failed to parse the pipeline spec")

    def _check_namespace(self, namespace: str | None) -> None:
        if self.is_multi_user and not namespace:
            raise RefusedError(400, "Namespace is empty: in multi-user mode it is required")
        if namespace and not self.is_multi_user:
            raise RefusedError(400, "In single-user mode, namespace must be empty")

    def _page(self, model: Any, name: str, found: Iterable[Any], query: Any) -> Any:
        """All of them with the name that is asked for, on one page."""
        if query.get("filter"):
            (predicate,) = json.loads(query["filter"])["predicates"]  # kfp writes it by hand
            assert predicate["operation"] in (1, "EQUALS")
            assert predicate["key"] == "display_name"
            found = [each for each in found if each.display_name == predicate["stringValue"]]
        return model(**{name: list(found)})


def _nodes_of(name: str, state: str) -> list[V2beta1PipelineTaskDetail]:
    """What KFP shows of one task: a driver, the task, and once it starts the pod that does its work."""

    def node(display_name: str, kind: str, node_state: str) -> V2beta1PipelineTaskDetail:
        names = {"display_name": display_name, "pod_name": f"{name}-{kind}"}
        return V2beta1PipelineTaskDetail(task_id=str(uuid.uuid4()), state=node_state, **names)

    if state == "PENDING":
        return [node(f"{name}-driver", "driver", "RUNNING")]
    return [node(f"{name}-driver", "driver", "SUCCEEDED"), node(name, "task", state), node("executor", "pod", state)]


def _error(status: int, message: str) -> Answer:
    return Answer(status, json.dumps({"error": message, "code": 2, "message": message}).encode())
