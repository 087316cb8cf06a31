"""Following a run to its end, and schedules."""

from collections.abc import Callable

import pytest
from kfp_server import Fault, KfpServer, Snapshot

from ndpnet.pipelines import runs
from ndpnet.pipelines.client import Cluster, ClusterError, LostError
from ndpnet.pipelines.request import Package
from ndpnet.pipelines.runs import follow, parse_trigger, set_schedule, start_run

GOOD = (
    Snapshot("PENDING"),
    Snapshot("RUNNING", {"prepare": "RUNNING"}),
    Snapshot("RUNNING", {"prepare": "RUNNING"}),
    Snapshot("RUNNING", {"prepare": "SUCCEEDED", "train": "RUNNING"}),
    Snapshot("SUCCEEDED", {"prepare": "SUCCEEDED", "train": "SUCCEEDED"}),
)
NIGHTLY, OFTEN = parse_trigger("0 2 * * 1-5", None), parse_trigger(None, "6h")
SetNightly = Callable[..., str]


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


@pytest.fixture
def set_nightly(cluster: Cluster, package: Package) -> SetNightly:
    """Have a schedule "nightly"."""
    values = {"name": "nightly", "trigger": NIGHTLY, "arguments": {"params": "{}"}}
    return lambda **changes: set_schedule(cluster, package, **values | changes)


def test_a_schedule_without_a_pause_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^--every 0h is never \(write 30m"):
        parse_trigger(None, "0h")


def test_a_schedule_does_not_overlap_nor_catch_up(kfp_server: KfpServer, set_nightly: SetNightly) -> None:
    assert set_nightly() == "created"
    (made,) = kfp_server.recurring_runs.values()
    assert (made.max_concurrency, made.no_catchup, made.mode) == ("1", True, "ENABLE")
    assert made.trigger.cron_schedule.cron == "0 0 2 * * 1-5"
    assert made.runtime_config.parameters == {"params": "{}"}
    assert made.pipeline_spec["pipelineInfo"]["name"] == "ndpnet-training"


def test_a_cron_that_the_server_refuses_leaves_the_old_one(kfp_server: KfpServer, set_nightly: SetNightly) -> None:
    set_nightly()
    with pytest.raises(ValueError, match=r"HTTP 400: .*not a valid schedule"):
        set_nightly(trigger=parse_trigger("0 25 * *", None))
    assert len(kfp_server.recurring_runs) == 1


def test_another_one_of_the_same_name_replaces_it(kfp_server: KfpServer, set_nightly: SetNightly) -> None:
    set_nightly()
    set_nightly(name="another", trigger=parse_trigger("15 0 2 * * *", None))  # with its seconds, as it is
    (old, other) = kfp_server.recurring_runs
    kfp_server.recurring_runs[old].mode = "DISABLE"  # paused on Kubeflow's page
    assert set_nightly(trigger=OFTEN, is_catching_up=True, service_account="trainer") == "replaced"
    kept, new = kfp_server.recurring_runs.values()
    assert (kept.recurring_run_id, old in kfp_server.recurring_runs) == (other, False)
    assert new.trigger.periodic_schedule.interval_second == "21600"
    assert (new.no_catchup, new.service_account, new.mode) == (False, "trainer", "DISABLE")
    # the new one is there before the old one goes
    changes = [call.split()[0] for call in kfp_server.calls if "recurringruns" in call and not call.startswith("GET")]
    assert changes == ["POST", "POST", "POST", "DELETE"]


@pytest.mark.parametrize("fault", [Fault("DELETE .*", 403), Fault("POST .*/recurringruns", 500, is_late=True)])
def test_what_a_killed_call_left_twice_is_one_again(
    kfp_server: KfpServer, set_nightly: SetNightly, fault: Fault
) -> None:
    set_nightly()
    kfp_server.faults.append(Fault(fault.pattern, fault.status, is_late=fault.is_late))  # made, and not yet deleted
    with pytest.raises(ValueError, match=r"HTTP (403|500)"):
        set_nightly(trigger=OFTEN)
    assert len(kfp_server.recurring_runs) == 2
    assert set_nightly(trigger=OFTEN) == "replaced"
    (left,) = kfp_server.recurring_runs.values()
    assert left.trigger.periodic_schedule.interval_second == "21600"
