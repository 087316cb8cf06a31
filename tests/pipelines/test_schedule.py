from collections.abc import Callable

import pytest
from kfp_server import Fault, KfpServer

from ndpnet.pipelines.client import Cluster, LostError
from ndpnet.pipelines.package import Package
from ndpnet.pipelines.schedule import change_schedule, list_schedules, parse_trigger, set_schedule

NIGHTLY, OFTEN = parse_trigger("0 2 * * 1-5", None), parse_trigger(None, "6h")
SetNightly = Callable[..., str]


@pytest.fixture
def set_nightly(cluster: Cluster, package: Package) -> SetNightly:
    """Have a schedule "nightly"."""
    values = {"name": "nightly", "trigger": NIGHTLY, "experiment": "ndpnet", "arguments": {"params": "{}"}}
    return lambda **changes: set_schedule(cluster, package, **values | changes)


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        ("0 2 * * *", "0 0 2 * * *"),
        ("  30 2  * * MON-FRI ", "0 30 2 * * MON-FRI"),
        ("15 0 2 * * *", "15 0 2 * * *"),
    ],
)
def test_cron_of_five_fields_gets_seconds(text: str, cron: str) -> None:
    assert parse_trigger(text, None) == {"cron_expression": cron}


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("6h", 21600), ("1d", 86400), ("2w", 1209600)])
def test_intervals(text: str, seconds: int) -> None:
    assert parse_trigger(None, text) == {"interval_second": seconds}


@pytest.mark.parametrize(
    ("cron", "every", "reason"),
    [
        ("", None, "has 0 fields"),
        ("@daily", None, "has 1 fields"),
        (None, "0h", "is no interval"),
        (None, "soon", "is no age"),
        (None, None, "pass either --cron"),
        ("0 2 * * *", "6h", "pass either --cron"),
    ],
)
def test_what_is_no_time_is_refused(cron: str | None, every: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_trigger(cron, every)


def test_a_schedule_does_not_overlap_nor_catch_up(kfp_server: KfpServer, set_nightly: SetNightly) -> None:
    assert set_nightly() == "created"
    (made,) = kfp_server.recurring_runs.values()
    assert (made.max_concurrency, made.no_catchup, made.mode) == ("1", True, "ENABLE")
    assert made.trigger.cron_schedule.cron == "0 0 2 * * 1-5"
    assert made.runtime_config.parameters == {"params": "{}"}
    assert made.pipeline_spec["pipelineInfo"]["name"] == "ndpnet-training"


def test_a_cron_that_the_server_refuses_leaves_the_old_one(kfp_server: KfpServer, set_nightly: SetNightly) -> None:
    set_nightly()
    kfp_server.faults.append(Fault("POST .*/recurringruns", status=400))
    with pytest.raises(ValueError, match="refuses it"):
        set_nightly(trigger=parse_trigger("0 25 * * *", None))
    assert len(kfp_server.recurring_runs) == 1


def test_another_one_of_the_same_name_replaces_it(kfp_server: KfpServer, set_nightly: SetNightly) -> None:
    set_nightly()
    set_nightly(name="another")
    (old, other) = kfp_server.recurring_runs
    assert set_nightly(trigger=OFTEN, is_catching_up=True, service_account="trainer") == "replaced"
    kept, new = kfp_server.recurring_runs.values()
    assert (kept.recurring_run_id, old in kfp_server.recurring_runs) == (other, False)
    assert new.trigger.periodic_schedule.interval_second == "21600"
    assert (new.no_catchup, new.service_account) == (False, "trainer")
    # the new one is there before the old one goes
    changes = [call.split()[0] for call in kfp_server.calls if "recurringruns" in call and not call.startswith("GET")]
    assert changes == ["POST", "POST", "POST", "DELETE"]


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "CANCELING", "PAUSED"])
def test_an_active_run_keeps_it_from_being_replaced(
    kfp_server: KfpServer, cluster: Cluster, set_nightly: SetNightly, state: str
) -> None:
    set_nightly()
    (old,) = kfp_server.recurring_runs
    (experiment_id,) = kfp_server.experiments
    for other in range(4):  # on the pages before
        kfp_server.add_run("SUCCEEDED", experiment_id=experiment_id, display_name=str(other))
    run = kfp_server.add_run(state, experiment_id=experiment_id, recurring_run_id=old)
    calls = (set_nightly, lambda: change_schedule(cluster, "nightly", "delete", even_if_active=False))
    for call in calls:
        with pytest.raises(
            ValueError, match=f"run {run.run_id} of schedule nightly is {state.lower()} .*--even-if-active"
        ):
            call()
    assert list(kfp_server.recurring_runs) == [old]
    assert set_nightly(even_if_active=True) == "replaced"
    assert old not in kfp_server.recurring_runs


def test_runs_of_others_do_not_keep_it(kfp_server: KfpServer, set_nightly: SetNightly) -> None:
    set_nightly()
    (experiment_id,) = kfp_server.experiments
    kfp_server.add_run("RUNNING", experiment_id=experiment_id)
    kfp_server.add_run("RUNNING", experiment_id=experiment_id, recurring_run_id="another")
    assert set_nightly() == "replaced"


@pytest.mark.parametrize(
    "fault", [Fault("DELETE .*", 403), Fault("DELETE .*", 500), Fault("POST .*/recurringruns", 500, is_late=True)]
)
def test_what_a_killed_call_left_twice_is_one_again(
    kfp_server: KfpServer, set_nightly: SetNightly, fault: Fault
) -> None:
    set_nightly()
    kfp_server.faults.append(Fault(fault.pattern, fault.status, is_late=fault.is_late))  # made, and not yet deleted
    with pytest.raises(ValueError, match=r"forbids|HTTP 500"):
        set_nightly(trigger=OFTEN)
    assert len(kfp_server.recurring_runs) == 2
    assert set_nightly(trigger=OFTEN) == "replaced"
    (left,) = kfp_server.recurring_runs.values()
    assert left.trigger.periodic_schedule.interval_second == "21600"


def test_a_lost_answer_makes_no_second_one(kfp_server: KfpServer, set_nightly: SetNightly) -> None:
    kfp_server.faults.append(Fault("POST .*/recurringruns", status=503, is_late=True))
    with pytest.raises(LostError):
        set_nightly()
    assert len(kfp_server.recurring_runs) == 1


def test_paused_stays_paused_until_resumed(kfp_server: KfpServer, cluster: Cluster, set_nightly: SetNightly) -> None:
    set_nightly()
    change_schedule(cluster, "nightly", "disable")
    set_nightly(trigger=OFTEN)
    (made,) = kfp_server.recurring_runs.values()
    assert (made.mode, made.status) == ("DISABLE", "DISABLED")
    change_schedule(cluster, "nightly", "enable")
    assert made.mode == "ENABLE"
    change_schedule(cluster, "nightly", "delete")
    assert kfp_server.recurring_runs == {}


def test_an_unknown_name_is_answered_with_the_known_ones(cluster: Cluster, set_nightly: SetNightly) -> None:
    names = [f"nightly-{number}" for number in range(4)]  # on several pages
    for name in names:
        set_nightly(name=name)
    for verb in ("disable", "enable", "delete"):
        with pytest.raises(ValueError, match=rf"no schedule is named nightly \(there are: {', '.join(names)}\)"):
            change_schedule(cluster, "nightly", verb)
    assert [each.display_name for each in list_schedules(cluster)] == names
