import logging

import pytest
from kfp_server import Fault, KfpServer

from ndpnet.pipelines.client import TIMEOUT, Cluster, ClusterError, LostError, connect
from ndpnet.pipelines.request import Package
from ndpnet.pipelines.runs import start_run

CREATE_RUN = "POST /apis/v2beta1/runs"
ARGUMENTS = {"params": '{"seed":12345678901234567}', "revision": "main", "only_new_data": True}


def submit(cluster: Cluster, package: Package) -> str:
    return start_run(cluster, package, name="nightly", arguments=ARGUMENTS)


@pytest.mark.parametrize("fault", [{"status": 500}, {"hang": 2.0}], ids=str)
@pytest.mark.parametrize("is_late", [False, True], ids=["before it did anything", "after it had made the run"])
def test_what_makes_something_is_never_repeated_blindly(
    kfp_server: KfpServer, package: Package, monkeypatch: pytest.MonkeyPatch, fault: dict, is_late: bool
) -> None:
    monkeypatch.setitem(TIMEOUT, "read", 1.0)
    cluster = connect(kfp_server.url)
    kfp_server.faults.append(Fault(CREATE_RUN, **fault, is_late=is_late))
    with pytest.raises(LostError):
        submit(cluster, package)
    assert kfp_server.calls.count(CREATE_RUN) == 1
    assert len(kfp_server.runs) == is_late


def test_without_a_valid_token_nothing_is_tried_twice(
    kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kfp_server.token = "the-right-token"
    for token in (None, "a-wrong-secret-token"):
        if token:
            monkeypatch.setenv("KFP_TOKEN", token)
        with caplog.at_level(logging.DEBUG), pytest.raises(ClusterError, match=r"HTTP 401: .*set KFP_TOKEN") as error:
            connect(kfp_server.url)
        assert "a-wrong-secret-token" not in str(error.value) + caplog.text
    assert len(kfp_server.calls) == 2
    monkeypatch.setenv("KFP_TOKEN", "the-right-token")
    assert connect(kfp_server.url).namespace is None


def test_a_login_page_is_told_from_an_answer(kfp_server: KfpServer) -> None:
    kfp_server.faults.append(Fault("GET .*healthz", page="<html>Log in</html>"))
    with pytest.raises(ClusterError, match="shows a login page"):
        connect(kfp_server.url)


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


def test_a_host_with_a_password_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no address without a password") as error:
        connect("https://me:secret@kubeflow.plant")
    assert "secret" not in str(error.value)


def test_nobody_there_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(LostError, match=r"no answer from http://127.0.0.1:9: "):
        connect("http://127.0.0.1:9")
    assert caplog.text == ""
