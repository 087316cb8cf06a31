from collections.abc import Callable

import pytest
from kfp_server import Fault, KfpServer

from ndpnet.pipelines.client import Cluster
from ndpnet.pipelines.request import Package
from ndpnet.pipelines.runs import parse_trigger, set_schedule

NIGHTLY, OFTEN = parse_trigger("0 2 * * 1-5", None), parse_trigger(None, "6h")
SetNightly = Callable[..., str]


@pytest.fixture
def set_nightly(cluster: Cluster, package: Package) -> SetNightly:
    """Have a schedule "nightly"."""
    values = {"name": "nightly", "trigger": NIGHTLY, "arguments": {"params": "{}"}}
    return lambda **changes: set_schedule(cluster, package, **values | changes)


@pytest.mark.parametrize(
    ("cron", "every", "trigger"),
    [
        ("0 2 * * *", None, {"cron_expression": "0 0 2 * * *"}),
        ("15 0 2 * * *", None, {"cron_expression": "15 0 2 * * *"}),
        (None, "30m", {"interval_second": 1800}),
        (None, "2w", {"interval_second": 1209600}),
    ],
)
def test_when_a_schedule_runs(cron: str | None, every: str | None, trigger: dict) -> None:
    assert parse_trigger(cron, every) == trigger


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
    set_nightly(name="another")
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
