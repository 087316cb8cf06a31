from dataclasses import replace

import pytest
from kfp_server import Fault, KfpServer

from pipelines import schedule as schedules
from pipelines.client import Cluster
from pipelines.cron import Trigger, parse_cron, parse_interval
from pipelines.package import Package
from pipelines.schedule import Schedule, set_schedule
from pipelines.submission import find_or_create_experiment, upload_version

NIGHTLY = parse_cron("0 2 * * 1-5")
CREATE = "POST /apis/v2beta1/recurringruns"


@pytest.fixture
def nightly(cluster: Cluster, package: Package) -> Schedule:
    version = upload_version(cluster, package, "0123456")
    experiment_id = find_or_create_experiment(cluster, "ndpnet")
    return Schedule("nightly", NIGHTLY, version, experiment_id, {"params": "{}", "revision": "main"})


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        ("0 2 * * *", "0 0 2 * * *"),
        ("  30 2  * * MON-FRI ", "0 30 2 * * MON-FRI"),
        ("15 0 2 * * *", "15 0 2 * * *"),
        ("*/15 * 1,15 jan ?", "0 */15 * 1,15 jan ?"),
        ("0 0 9 ? * 2-6", "0 0 9 ? * 2-6"),
        ("5/10 0-5/2 * * 0", "0 5/10 0-5/2 * * 0"),
    ],
)
def test_cron_of_five_fields_gets_seconds(text: str, cron: str) -> None:
    assert parse_cron(text) == Trigger(cron=cron)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 fields"),
        ("* * *", "has 3 fields"),
        ("@daily", "has 1 fields"),
        ("60 2 * * *", "'60' is no minute"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 2 0 * *", "'0' is no day of the month"),
        ("0 2 * 13 *", "'13' is no month"),
        ("0 2 * * 7", "'7' is no day of the week .*Sunday is 0"),
        ("0 2 * * FRI-MON", "'FRI-MON' is no day of the week"),
        ("0 5-2 * * *", "'5-2' is no hour"),
        ("*/0 * * * *", r"'\*/0' is no minute"),
        ("1, * * * *", "'' is no minute"),
        ("? * * * *", r"'\?' is no minute"),
        ("0 -2 * * *", "'-2' is no hour"),
    ],
)
def test_a_wrong_cron_names_the_field(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_cron(text)


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("6h", 21600), ("1d", 86400), ("2w", 1209600)])
def test_intervals(text: str, seconds: int) -> None:
    assert parse_interval(text) == Trigger(interval=seconds)
    assert str(parse_interval(text)) == f"every {text}"


@pytest.mark.parametrize("text", ["", "6", "0h", "-1h", "6 hours", "1.5h", "99999d"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no interval"):
        parse_interval(text)


def test_a_schedule_does_not_overlap_nor_catch_up(kfp_server: KfpServer, cluster: Cluster, nightly: Schedule) -> None:
    assert set_schedule(cluster, nightly) == "created"
    (made,) = kfp_server.recurring_runs.values()
    assert (made.max_concurrency, made.no_catchup, made.mode) == ("1", True, "ENABLE")
    assert made.trigger.cron_schedule.cron == "0 0 2 * * 1-5"
    assert made.runtime_config.parameters == nightly.arguments
    assert made.pipeline_version_reference.pipeline_version_id == nightly.version.version_id


def test_the_same_again_changes_nothing(kfp_server: KfpServer, cluster: Cluster, nightly: Schedule) -> None:
    set_schedule(cluster, nightly)
    before = list(kfp_server.recurring_runs)
    assert set_schedule(cluster, nightly) == "unchanged"
    assert list(kfp_server.recurring_runs) == before
    assert kfp_server.num_calls("(POST|DELETE) .*recurringruns.*") == 1


@pytest.mark.parametrize(
    "change",
    [
        {"trigger": parse_interval("6h")},
        {"arguments": {"params": '{"seed":1}', "revision": "main"}},
        {"is_catching_up": True},
        {"service_account": "trainer"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_replaces_it(kfp_server: KfpServer, cluster: Cluster, nightly: Schedule, change: dict) -> None:
    set_schedule(cluster, nightly)
    (old,) = kfp_server.recurring_runs
    changed = replace(nightly, **change)
    assert set_schedule(cluster, changed) == "replaced"
    (new,) = kfp_server.recurring_runs
    assert new != old
    assert set_schedule(cluster, changed) == "unchanged"
    # the new one is there before the old one goes
    changes = [call.split()[0] for call in kfp_server.calls if "recurringruns" in call and not call.startswith("GET")]
    assert changes == ["POST", "POST", "DELETE"]


def test_a_new_version_replaces_it(
    kfp_server: KfpServer, cluster: Cluster, nightly: Schedule, other_package: Package
) -> None:
    set_schedule(cluster, nightly)
    version = upload_version(cluster, other_package, "89abcde")
    assert set_schedule(cluster, replace(nightly, version=version)) == "replaced"
    (made,) = kfp_server.recurring_runs.values()
    assert made.pipeline_version_reference.pipeline_version_id == version.version_id


@pytest.mark.parametrize("state", ["RUNNING", "PENDING", "CANCELING", "PAUSED"])
def test_an_active_run_keeps_it_from_being_replaced(
    kfp_server: KfpServer, cluster: Cluster, nightly: Schedule, state: str
) -> None:
    set_schedule(cluster, nightly)
    (old,) = kfp_server.recurring_runs
    for other in range(4):  # on the pages before
        kfp_server.add_run("SUCCEEDED", experiment_id=nightly.experiment_id, display_name=str(other))
    run = kfp_server.add_run(state, experiment_id=nightly.experiment_id, recurring_run_id=old)
    changed = replace(nightly, trigger=parse_interval("6h"))
    for call in (lambda: set_schedule(cluster, changed), lambda: schedules.delete(cluster, "nightly")):
        with pytest.raises(
            ValueError, match=f"run {run.run_id} of schedule nightly is {state.lower()} .*--even-if-act"
        ):
            call()
    assert list(kfp_server.recurring_runs) == [old]
    assert set_schedule(cluster, nightly) == "unchanged"
    assert set_schedule(cluster, changed, even_if_active=True) == "replaced"
    assert old not in kfp_server.recurring_runs


def test_runs_of_others_do_not_keep_it(kfp_server: KfpServer, cluster: Cluster, nightly: Schedule) -> None:
    set_schedule(cluster, nightly)
    kfp_server.add_run("RUNNING", experiment_id=nightly.experiment_id)
    kfp_server.add_run("RUNNING", experiment_id=nightly.experiment_id, recurring_run_id="another")
    assert set_schedule(cluster, replace(nightly, trigger=parse_interval("6h"))) == "replaced"


def test_what_a_killed_call_left_twice_is_one_again(kfp_server: KfpServer, cluster: Cluster, nightly: Schedule) -> None:
    set_schedule(cluster, nightly)
    changed = replace(nightly, trigger=parse_interval("6h"))
    kfp_server.faults.append(Fault("DELETE .*", status=403))  # the call ends between making and deleting
    with pytest.raises(ValueError, match="forbids"):
        set_schedule(cluster, changed)
    assert len(kfp_server.recurring_runs) == 2
    assert set_schedule(cluster, changed) == "replaced"
    (left,) = kfp_server.recurring_runs.values()
    assert left.trigger.periodic_schedule.interval_second == "21600"


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("pattern", [CREATE, "DELETE .*"])
def test_a_lost_answer_leaves_one_schedule(
    kfp_server: KfpServer, cluster: Cluster, nightly: Schedule, pattern: str, is_late: bool
) -> None:
    set_schedule(cluster, nightly)
    kfp_server.faults.append(Fault(pattern, status=500, is_late=is_late))
    set_schedule(cluster, replace(nightly, trigger=parse_interval("6h")))
    (left,) = kfp_server.recurring_runs.values()
    assert left.trigger.periodic_schedule.interval_second == "21600"


def test_paused_stays_paused_until_resumed(kfp_server: KfpServer, cluster: Cluster, nightly: Schedule) -> None:
    set_schedule(cluster, nightly)
    schedules.pause(cluster, "nightly")
    set_schedule(cluster, replace(nightly, trigger=parse_interval("6h")))
    (made,) = kfp_server.recurring_runs.values()
    assert (made.mode, made.status) == ("DISABLE", "DISABLED")
    schedules.resume(cluster, "nightly")
    assert made.mode == "ENABLE"
    schedules.delete(cluster, "nightly")
    assert kfp_server.recurring_runs == {}


def test_an_unknown_name_is_answered_with_the_known_ones(cluster: Cluster, nightly: Schedule) -> None:
    set_schedule(cluster, nightly)
    for call in (schedules.pause, schedules.resume, schedules.delete):
        with pytest.raises(ValueError, match=r"no schedule is named nightl \(there are: nightly\)"):
            call(cluster, "nightl")
    assert [each.display_name for each in schedules.list_schedules(cluster)] == ["nightly"]
