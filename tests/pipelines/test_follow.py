import pytest
from kfp_runs import Snapshot
from kfp_server import Fault, KfpServer

from ndpnet.pipelines import runs
from ndpnet.pipelines.client import Cluster, ClusterError, LostError
from ndpnet.pipelines.request import Package
from ndpnet.pipelines.runs import follow, start_run

GOOD = (
    Snapshot("PENDING"),
    Snapshot("RUNNING", {"prepare": "RUNNING"}),
    Snapshot("RUNNING", {"prepare": "RUNNING"}),
    Snapshot("RUNNING", {"prepare": "SUCCEEDED", "train": "RUNNING"}),
    Snapshot("SUCCEEDED", {"prepare": "SUCCEEDED", "train": "SUCCEEDED"}),
)


@pytest.fixture
def submit(kfp_server: KfpServer, cluster: Cluster, package: Package):
    """Submit a run that goes through these states."""

    def submit(*script: Snapshot) -> str:
        kfp_server.next_script = list(script)
        return start_run(cluster, package, name="x", arguments={"params": "{}"})

    return submit


def followed(cluster: Cluster, run_id: str) -> tuple[int, list[str]]:
    """Exit code and lines."""
    lines: list[str] = []
    return follow(cluster, run_id, lines.append, poll_seconds=0.001), lines


def test_every_change_is_one_line(submit, cluster: Cluster) -> None:
    assert followed(cluster, submit(*GOOD)) == (
        0,
        [
            "run: pending",
            "prepare: running",
            "run: running",
            "prepare: succeeded",
            "train: running",
            "train: succeeded",
            "run: succeeded",
        ],
    )


def test_a_server_that_restarts_is_waited_for(submit, kfp_server: KfpServer, cluster: Cluster) -> None:
    run_id = submit(*GOOD)
    kfp_server.faults.append(Fault("GET .*/runs/.*", status=503, times=3))
    assert followed(cluster, run_id)[0] == 0


def test_a_server_that_stays_away_ends_it(
    submit, kfp_server: KfpServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "AWAY_SECONDS", 0.1)
    run_id = submit(*GOOD)
    kfp_server.faults.append(Fault("GET .*/runs/.*", status=503, times=10_000))
    with pytest.raises(LostError, match=r"HTTP 503"):
        followed(cluster, run_id)


def test_an_unknown_run_ends_it_at_once(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"HTTP 404: .*Run nothing not found"):
        followed(cluster, "nothing")
