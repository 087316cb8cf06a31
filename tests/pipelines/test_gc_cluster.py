from dataclasses import replace

import pytest
from kfp_server import Fault, KfpServer

from ndpnet.gc import DAY, Policy
from pipelines.client import Cluster
from pipelines.cron import parse_interval
from pipelines.gc import find_old, remove
from pipelines.package import Package
from pipelines.schedule import Schedule, set_schedule
from pipelines.submission import Version, create_run, find_or_create_experiment, upload_version

WHERE = {"experiment": "ndpnet", "pipelines": ("ndpnet-training", "ndpnet-inspection")}
LATER = 1_700_000_000 + 30 * DAY  # the server's things are of the seconds after 1,700,000,000
ALL = Policy(older_than=14 * DAY, keep_last=0)


class Place:
    """Versions and runs on a server."""

    def __init__(self, server: KfpServer, cluster: Cluster, package: Package) -> None:
        self.server, self.cluster, self.package = server, cluster, package
        self.experiment_id = find_or_create_experiment(cluster, "ndpnet")

    def run(self, name: str, version: Version, state: str = "SUCCEEDED", experiment_id: str = "") -> str:
        values = {"job_name": name, "request_id": name, "arguments": {"params": "{}"}}
        experiment_id = experiment_id or self.experiment_id
        run_id = create_run(self.cluster, version, experiment_id=experiment_id, **values).run_id
        self.server.runs[run_id].state = state
        return run_id

    def version(self, name: str) -> Version:
        return upload_version(self.cluster, self.package, name)

    def collect(self, policy: Policy = ALL, now: float = LATER) -> list[str]:
        old, _ = find_old(self.cluster, **WHERE, policy=policy, now=now)
        assert all(problem == "" for _, problem in remove(self.cluster, old))
        return [f"{each.kind} {each.name}" for each in old]


@pytest.fixture
def place(kfp_server: KfpServer, cluster: Cluster, package: Package) -> Place:
    return Place(kfp_server, cluster, package)


def test_old_runs_and_their_versions_go(place: Place) -> None:
    for number in range(5):
        place.run(f"run {number}", place.version(f"v{number}"))
    assert place.collect(Policy(older_than=14 * DAY, keep_last=2)) == [
        "run run 2",
        "run run 1",
        "run run 0",
        "version ndpnet-training v2",
        "version ndpnet-training v1",
        "version ndpnet-training v0",
    ]
    assert sorted(run.display_name for run in place.server.runs.values()) == ["run 3", "run 4"]
    assert sorted(each.name for each in place.server.versions.values()) == ["v3", "v4"]


def test_what_is_new_stays(place: Place) -> None:
    place.run("run", place.version("v"))
    assert place.collect(now=LATER - 20 * DAY) == []
    assert place.collect() == ["run run", "version ndpnet-training v"]


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "CANCELING", "PAUSED"])
def test_an_active_run_and_its_version_stay(place: Place, state: str) -> None:
    place.run("run", place.version("v"), state)
    assert place.collect() == []
    assert [len(place.server.runs), len(place.server.versions)] == [1, 1]


def test_a_scheduled_version_stays(place: Place) -> None:
    nightly = Schedule("nightly", parse_interval("1d"), place.version("v0"), place.experiment_id, {"params": "{}"})
    set_schedule(place.cluster, nightly)
    set_schedule(place.cluster, replace(nightly, name="weekly", version=place.version("v1")))
    place.version("v2")
    assert place.collect() == ["version ndpnet-training v2"]


def test_other_peoples_things_stay(place: Place) -> None:
    elsewhere = find_or_create_experiment(place.cluster, "elsewhere")
    place.run("theirs", place.version("v"), experiment_id=elsewhere)
    assert place.collect() == []


def test_what_cannot_be_removed_is_said_and_the_rest_goes(place: Place) -> None:
    first, second = (place.run(f"run {number}", place.version("v")) for number in range(2))
    place.server.faults.append(Fault(f"DELETE .*/{second}", status=403))
    old, _ = find_old(place.cluster, **WHERE, policy=ALL, now=LATER)
    outcomes = {each.identifier: problem for each, problem in remove(place.cluster, old)}
    assert outcomes[first] == ""
    assert "forbids it" in outcomes[second]
    assert list(place.server.runs) == [second]


def test_an_empty_server_has_nothing_to_remove(cluster: Cluster) -> None:
    assert find_old(cluster, **WHERE, policy=ALL) == ([], {"run": 0, "version": 0})
