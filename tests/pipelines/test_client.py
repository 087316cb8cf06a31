import logging
import subprocess
import time
from pathlib import Path

import pytest
from compiled import IMAGE
from http_servers import serving
from kfp_server import Fault, KfpServer

from ndpnet.pipelines.client import RETRIES, TIMEOUT, Cluster, ClusterError, LostError, connect
from ndpnet.pipelines.package import Package
from ndpnet.pipelines.runs import start_run
from ndpnet.pipelines.schedule import list_schedules

CREATE_RUN, LIST = "POST /apis/v2beta1/runs", "GET .*/recurringruns"
ARGUMENTS = {"params": '{"seed":12345678901234567}', "revision": "main", "only_new_data": True}


def submit(cluster: Cluster, package: Package) -> str:
    return start_run(cluster, package, name="nightly", experiment="ndpnet", arguments=ARGUMENTS)


def test_a_run_is_of_the_package_with_the_very_arguments(
    kfp_server: KfpServer, cluster: Cluster, package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = submit(cluster, package)
    (run,) = kfp_server.runs.values()
    assert (run.run_id, run.display_name) == (run_id, "nightly")
    assert run.runtime_config.parameters == ARGUMENTS
    executors = run.pipeline_spec["deploymentSpec"]["executors"]
    assert {each["container"]["image"] for each in executors.values()} == {IMAGE}
    assert kfp_server.experiments[run.experiment_id].display_name == "ndpnet"
    assert cluster.url_of(run_id) == f"{kfp_server.url}/#/runs/details/{run_id}"
    assert capsys.readouterr().out == ""


def test_runs_share_their_experiment(kfp_server: KfpServer, cluster: Cluster, package: Package) -> None:
    assert len({submit(cluster, package) for _ in range(2)}) == 2
    assert [len(each) for each in (kfp_server.experiments, kfp_server.runs)] == [1, 2]


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"status": 429}, {"is_cut": True}], ids=str)
def test_reading_is_repeated_until_the_server_is_back(kfp_server: KfpServer, cluster: Cluster, fault: dict) -> None:
    kfp_server.faults.append(Fault(LIST, times=2, **fault))
    assert list_schedules(cluster) == []
    assert kfp_server.num_calls(LIST) == 3


def test_a_server_that_stays_broken_gives_one_line_after_the_last_attempt(
    kfp_server: KfpServer, cluster: Cluster
) -> None:
    kfp_server.faults.append(Fault(LIST, status=500, times=99))
    with pytest.raises(LostError, match=r"fails \(HTTP 500\): injected failure$"):
        list_schedules(cluster)
    assert kfp_server.num_calls(LIST) == 1 + RETRIES["total"]


def test_a_hanging_server_is_waited_for_no_longer_than_said(
    kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TIMEOUT, "read", 0.4)
    cluster = connect(kfp_server.url)
    kfp_server.faults.append(Fault(LIST, hang=20.0))
    start = time.monotonic()
    assert list_schedules(cluster) == []
    assert time.monotonic() - start < 15
    assert kfp_server.num_calls(LIST) >= 2


@pytest.mark.parametrize("fault", [{"status": 500}, {"hang": 5.0}], ids=str)
@pytest.mark.parametrize("is_late", [False, True], ids=["before it did anything", "after it had made the run"])
def test_what_makes_something_is_never_repeated_blindly(
    kfp_server: KfpServer, package: Package, monkeypatch: pytest.MonkeyPatch, fault: dict, is_late: bool
) -> None:
    monkeypatch.setitem(TIMEOUT, "read", 2.0)
    cluster = connect(kfp_server.url)
    kfp_server.faults.append(Fault(CREATE_RUN, **fault, is_late=is_late))
    with pytest.raises(LostError):
        submit(cluster, package)
    assert kfp_server.num_calls(CREATE_RUN) == 1
    assert len(kfp_server.runs) == is_late


def test_without_a_valid_token_nothing_is_tried_twice(
    kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kfp_server.token = "the-right-token"
    for token in (None, "a-wrong-secret-token"):
        if token:
            monkeypatch.setenv("KFP_TOKEN", token)
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(ClusterError, match=r"wants a login \(HTTP 401\): set KFP_TOKEN") as error,
        ):
            connect(kfp_server.url)
        assert "a-wrong-secret-token" not in str(error.value) + caplog.text
    assert len(kfp_server.calls) == 2
    monkeypatch.setenv("KFP_TOKEN", "the-right-token")
    assert connect(kfp_server.url).namespace is None


@pytest.mark.parametrize("pattern", ["GET .*healthz", LIST])
def test_a_login_page_is_told_from_an_answer(kfp_server: KfpServer, pattern: str) -> None:
    kfp_server.faults.append(Fault(pattern, page="<html>Log in</html>"))
    with pytest.raises(ClusterError, match="shows a login page"):
        list_schedules(connect(kfp_server.url))


def test_a_server_with_an_authority_of_its_own(
    kfp_server: KfpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", path, "-out", tmp_path / "only.pem"], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "only.pem").read_text())
    with serving(kfp_server.answer, certificate=path) as address:
        with pytest.raises(ClusterError, match=r"no secure connection .*CERTIFICATE_VERIFY_FAILED.*set KFP_CA_CERT"):
            connect(f"https://{address}")
        monkeypatch.setenv("KFP_CA_CERT", str(tmp_path / "only.pem"))
        assert connect(f"https://{address}").namespace is None


def test_errors_say_what_the_server_says(kfp_server: KfpServer, cluster: Cluster, package: Package) -> None:
    kfp_server.faults.append(Fault("POST .*/experiments", status=403))
    with pytest.raises(ClusterError, match="forbids it: injected failure"):
        submit(cluster, package)
    for status, said in ((404, "has no such thing"), (400, r"refuses it \(HTTP 400\)")):
        kfp_server.faults.append(Fault(CREATE_RUN, status=status))
        with pytest.raises(ClusterError, match=f"{said}: injected failure"):
            submit(cluster, package)


def test_a_server_for_many_users_is_told_whose_namespace(
    kfp_server: KfpServer, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp_server.is_multi_user = True
    with pytest.raises(ValueError, match="say whose"):
        connect(kfp_server.url)
    monkeypatch.setenv("KFP_NAMESPACE", "vision")
    submit(connect(kfp_server.url), package)
    assert [each.namespace for each in kfp_server.experiments.values()] == ["vision"]


def test_a_server_for_one_user_is_told_no_namespace(kfp_server: KfpServer, package: Package) -> None:
    submit(connect(kfp_server.url, namespace="vision"), package)  # it would refuse one
    assert not any(each.namespace for each in kfp_server.experiments.values())


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("", "no Kubeflow Pipelines server is named"),
        ("kubeflow.plant", "is no address"),
        ("https://me:secret@kubeflow.plant", "came with a password"),
    ],
)
def test_a_bad_host_is_named_at_once(host: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        connect(host)
    assert "secret" not in str(error.value)


def test_nobody_there_is_one_line() -> None:
    with pytest.raises(LostError, match=r"no answer from http://127.0.0.1:9: .*is it up"):
        connect("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["revision"], r"needs a value of parameter params \(pass -a params=\.\.\.\)"),
        (["params", "revison"], "has no parameter revison .*only_new_data, params, revision"),
    ],
)
def test_arguments_are_checked_against_the_package(package: Package, names: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        package.check_arguments(names)
    package.check_arguments(ARGUMENTS)


def test_arguments_are_read_as_their_parameters_are(package: Package) -> None:
    assert package.parse_argument("revision", "7") == "7"
    assert package.parse_argument("only_new_data", "true") is True
    with pytest.raises(ValueError, match="parameter only_new_data is a Boolean, not 'yes'"):
        package.parse_argument("only_new_data", "yes")


def test_what_is_no_package_is_named(tmp_path: Path) -> None:
    for content in ("", "a: 1", "- x", "a: [", "\x00"):
        (tmp_path / "x.yaml").write_text(content)
        with pytest.raises(ValueError, match=r"x\.yaml.*ndpnet pipeline compile"):
            Package(tmp_path / "x.yaml")
