import io
from datetime import UTC, datetime, timedelta

import kfp_server_api as api
import pytest
from kfp_runs import Snapshot
from kfp_server import Fault, KfpServer

from pipelines import follow as following
from pipelines.client import Cluster, ClusterError, LostError
from pipelines.follow import Task, follow, format_outcome, tasks_of
from pipelines.package import Package
from pipelines.progress import Lines, Table
from pipelines.submission import create_run, find_or_create_experiment, upload_version

START = datetime(2026, 1, 1, tzinfo=UTC)
POLL = {"poll_seconds": 0.001}


@pytest.fixture
def submit(kfp_server: KfpServer, cluster: Cluster, package: Package):
    """Submit a run that goes through these states."""

    def submit(*script: Snapshot) -> str:
        kfp_server.next_script = list(script)
        version = upload_version(cluster, package, "0123456")
        values = {"job_name": "x", "request_id": str(len(kfp_server.runs)), "arguments": {"params": "{}"}}
        return create_run(cluster, version, experiment_id=find_or_create_experiment(cluster, "x"), **values).run_id

    return submit


GOOD = (
    Snapshot("PENDING"),
    Snapshot("RUNNING", {"prepare": "RUNNING"}),
    Snapshot("RUNNING", {"prepare": "RUNNING"}),
    Snapshot("RUNNING", {"prepare": "SUCCEEDED", "train": "RUNNING"}),
    Snapshot("SUCCEEDED", {"prepare": "SUCCEEDED", "train": "SUCCEEDED"}),
)


def test_every_change_is_one_line(submit, cluster: Cluster) -> None:
    stream = io.StringIO()
    outcome = follow(cluster, submit(*GOOD), Lines(stream), **POLL)
    assert outcome.exit_code == 0
    lines = [line.split(" ")[0:2] for line in stream.getvalue().splitlines()]
    assert lines == [
        ["run:", "pending"],
        ["prepare:", "running"],
        ["run:", "running"],
        ["prepare:", "succeeded"],
        ["train:", "running"],
        ["train:", "succeeded"],
        ["run:", "succeeded"],
    ]
    assert "prepare: succeeded 1:05" in stream.getvalue()


def test_a_terminal_shows_one_table_drawn_anew(submit, cluster: Cluster) -> None:
    stream = io.StringIO()
    follow(cluster, submit(*GOOD), Table(stream), **POLL)
    last = stream.getvalue().rpartition("\x1b[3A\x1b[J")[2]
    assert last.splitlines() == [
        "+ prepare: succeeded 1:05",
        "+ train: succeeded 1:05",
        "run: succeeded",
    ]


def test_a_small_terminal_shows_what_tells_most() -> None:
    stream = io.StringIO()
    table = Table(stream, size=lambda: (12, 7))
    states = {"a": "SUCCEEDED", "b": "FAILED", "c": "SUCCEEDED", "d": "RUNNING", "e": "SUCCEEDED"}
    table("RUNNING", [Task(name * 9, state, 0.0, "") for name, state in states.items()])
    assert stream.getvalue().splitlines() == ["(2 more)", "x bbbbbbbbb", "> ddddddddd", "+ eeeeeeeee", "run: runnin"]


def test_a_failed_run_names_the_task_and_shows_the_end_of_its_log(
    submit, kfp_server: KfpServer, cluster: Cluster
) -> None:
    kfp_server.logs["train-pod-node"] = "\n".join(f"step {number}" for number in range(1000)) + "\nout of memory\n\n"
    failed = Snapshot("FAILED", {"prepare": "SUCCEEDED", "train": "FAILED"}, error="Argo: child failed")
    outcome = follow(cluster, submit(*GOOD[:-1], failed), Lines(io.StringIO()), **POLL)
    assert outcome.exit_code == 1
    assert [task.name for task in outcome.failed] == ["train"]
    lines = format_outcome(outcome)
    assert lines[:2] == ["run failed: Argo: child failed", "failed task: train: failed 1:05"]
    assert lines[-2:] == ["out of memory", "---"]
    assert len(outcome.log) == following.LOG_LINES
    assert outcome.log[0] == "step 961"


def test_a_log_of_one_endless_line_is_cut(submit, kfp_server: KfpServer, cluster: Cluster) -> None:
    kfp_server.logs["train-pod-node"] = "\r".join(f"{number} %" for number in range(100_000))
    outcome = follow(cluster, submit(Snapshot("FAILED", {"train": "FAILED"})), Lines(io.StringIO()), **POLL)
    (line,) = outcome.log
    assert line.endswith("99999 %")
    assert len(line) == following.LOG_LINE_BYTES


def test_without_a_log_it_says_so(submit, cluster: Cluster) -> None:
    outcome = follow(cluster, submit(Snapshot("FAILED", {"train": "FAILED"})), Lines(io.StringIO()), **POLL)
    assert outcome.exit_code == 1
    (line,) = outcome.log
    assert line.startswith("(no log of it: ")
    assert "pods not found" in line


def test_a_log_that_breaks_off_is_asked_for_again(submit, kfp_server: KfpServer, cluster: Cluster) -> None:
    kfp_server.logs["train-pod-node"] = "out of memory\n"
    kfp_server.faults.append(Fault("GET .*/log", is_cut=True))
    outcome = follow(cluster, submit(Snapshot("FAILED", {"train": "FAILED"})), Lines(io.StringIO()), **POLL)
    assert outcome.log == ("out of memory",)
    assert kfp_server.num_calls("GET .*/log") == 2


def test_a_login_page_in_between_ends_it(submit, kfp_server: KfpServer, cluster: Cluster) -> None:
    run_id = submit(*GOOD)
    kfp_server.faults.append(Fault("GET .*/runs/.*", page="<html>Log in</html>"))
    with pytest.raises(ClusterError, match="shows a login page"):
        follow(cluster, run_id, Lines(io.StringIO()), **POLL)


def test_a_failure_before_any_task_shows_its_reason(submit, cluster: Cluster) -> None:
    run_id = submit(Snapshot("FAILED", error="invalid spec: template not\nfound"))
    outcome = follow(cluster, run_id, Lines(io.StringIO()), **POLL)
    assert format_outcome(outcome) == ["run failed: invalid spec: template not found"]


def test_a_canceled_run_has_an_exit_code_of_its_own(submit, cluster: Cluster) -> None:
    script = (Snapshot("CANCELING", {"train": "RUNNING"}), Snapshot("CANCELED", {"train": "CANCELED"}))
    assert follow(cluster, submit(*script), Lines(io.StringIO()), **POLL).exit_code == 3


def test_a_server_that_restarts_is_waited_for(submit, kfp_server: KfpServer, cluster: Cluster) -> None:
    run_id = submit(*GOOD)
    kfp_server.faults.append(Fault("GET .*/runs/.*", status=503, times=7))  # two rounds of three attempts, and one
    assert follow(cluster, run_id, Lines(io.StringIO()), **POLL).exit_code == 0


def test_a_server_that_stays_away_ends_it(
    submit, kfp_server: KfpServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "AWAY_SECONDS", 0.1)
    run_id = submit(*GOOD)
    kfp_server.faults.append(Fault("GET .*/runs/.*", status=503, times=10_000))
    with pytest.raises(LostError):
        follow(cluster, run_id, Lines(io.StringIO()), **POLL)


def test_an_unknown_run_and_an_expired_token_end_it_at_once(submit, kfp_server: KfpServer, cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="Run nothing not found"):
        follow(cluster, "nothing", Lines(io.StringIO()), **POLL)
    run_id = submit(*GOOD)
    kfp_server.faults.append(Fault("GET .*/runs/.*", status=401))
    with pytest.raises(ClusterError, match="wants a login"):
        follow(cluster, run_id, Lines(io.StringIO()), **POLL)


def node(name: str, node_id: str, state: str, *children: str, seconds: int = 0) -> api.V2beta1PipelineTaskDetail:
    start = START + timedelta(seconds=seconds)
    detail = api.V2beta1PipelineTaskDetail(display_name=name, pod_name=node_id, task_id=f"id of {node_id}")
    detail.state, detail.start_time, detail.create_time = state, start, start
    detail.end_time = start + timedelta(seconds=10) if state in ("SUCCEEDED", "FAILED") else datetime(1970, 1, 1)
    detail.child_tasks = [api.PipelineTaskDetailChildTask(pod_name=child) for child in children] or None
    return detail


def run_of(*nodes: api.V2beta1PipelineTaskDetail) -> api.V2beta1Run:
    return api.V2beta1Run(run_id="r", state="RUNNING", run_details=api.V2beta1RunDetails(task_details=list(nodes)))


def test_a_loop_shows_each_iteration_and_the_pod_that_failed() -> None:
    # as KFP's Argo compiler names nodes and Argo hangs them on each other: a driver on the pod of the task before
    run = run_of(
        node("ndpnet-training-x7k2p", "all", "RUNNING", "root-driver"),
        node("root", "root", "RUNNING", "loop-driver"),
        node("root-driver", "root-driver", "SUCCEEDED", "root"),
        node("for-loop-1-driver", "loop-driver", "SUCCEEDED", "loop"),
        node("for-loop-1", "loop", "RUNNING", "it-driver", seconds=1),
        node("iteration-driver", "it-driver", "SUCCEEDED", "its", seconds=1),
        node("iteration-iterations", "its", "RUNNING", "it0", "it1", seconds=1),
        node("iteration-iterations(0:0)", "it0", "RUNNING", "item0-driver", seconds=2),
        node("iteration-iterations(1:1)", "it1", "RUNNING", "item1-driver", seconds=2),
        node("iteration-item-driver", "item0-driver", "SUCCEEDED", "item0", seconds=2),
        node("iteration-item-driver", "item1-driver", "SUCCEEDED", "item1", seconds=2),
        node("iteration-item", "item0", "RUNNING", "p0-driver", seconds=2),
        node("iteration-item", "item1", "RUNNING", "p1-driver", seconds=2),
        *(
            each
            for number in ("0", "1")
            for each in (
                node("prepare-driver", f"p{number}-driver", "SUCCEEDED", f"p{number}", seconds=3),
                node("prepare", f"p{number}", "SUCCEEDED", f"p{number}-pod", seconds=4),
                node("executor", f"p{number}-pod", "SUCCEEDED", f"t{number}-driver", seconds=5),
                node("train-driver", f"t{number}-driver", "SUCCEEDED", f"t{number}", seconds=6),
            )
        ),
        node("train", "t0", "FAILED", "t0-retry", seconds=7),
        node("executor", "t0-retry", "FAILED", "t0-first", "t0-second", seconds=8),
        node("executor(0)", "t0-first", "FAILED", seconds=8),
        node("executor(1)", "t0-second", "FAILED", seconds=9),
        node("train", "t1", "RUNNING", "t1-pod", seconds=7),
        node("executor", "t1-pod", "RUNNING", seconds=8),
    )
    tasks = {task.name: task for task in tasks_of(run)}
    assert list(tasks) == ["prepare[0]", "prepare[1]", "train[0]", "train[1]"]
    assert [task.state for task in tasks.values()] == ["SUCCEEDED", "SUCCEEDED", "FAILED", "RUNNING"]
    assert tasks["train[0]"].node_id == "t0-second"  # its last attempt
    assert tasks["train[0]"].seconds == 10
    assert tasks["train[1]"].seconds > 1000  # it has no end yet, whatever the server writes there


def test_a_driver_is_shown_only_if_it_fails() -> None:
    run = run_of(node("train-driver", "d", "FAILED"), node("prepare-driver", "e", "RUNNING"))
    assert tasks_of(run) == [Task("train-driver", "FAILED", 10.0, "d")]


def test_nodes_that_hang_on_each_other_do_not_hang_us() -> None:
    run = run_of(node("a", "a", "RUNNING", "b"), node("executor", "b", "RUNNING", "a"))
    assert [task.name for task in tasks_of(run)] == ["a"]
    assert tasks_of(api.V2beta1Run()) == []
