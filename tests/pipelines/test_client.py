import logging
import subprocess
import time
from pathlib import Path

import pytest
from conftest import IMAGE, QUICK, compile_pipeline
from http_servers import serving
from kfp_server import Fault, KfpServer

from pipelines.client import Cluster, ClusterError, LostError, connect
from pipelines.package import Package
from pipelines.submission import create_run, find_or_create_experiment, upload_version

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CREATE_RUN, UPLOAD = "POST /apis/v2beta1/runs", "POST /apis/v2beta1/pipelines/upload_version"
ARGUMENTS = {"params": '{"seed":12345678901234567}', "revision": "main", "only_new_data": True}


def submit(cluster: Cluster, package: Package, *, request_id: str = "one", arguments: dict | None = None):
    version = upload_version(cluster, package, COMMIT)
    experiment_id = find_or_create_experiment(cluster, "ndpnet")
    values = {"job_name": "nightly", "request_id": request_id, "arguments": arguments or ARGUMENTS}
    return create_run(cluster, version, experiment_id=experiment_id, **values)


def test_a_run_is_of_the_named_version_with_the_very_arguments(
    kfp_server: KfpServer, cluster: Cluster, package: Package
) -> None:
    submitted = submit(cluster, package)
    (run,) = kfp_server.runs.values()
    version = kfp_server.versions[run.pipeline_version_reference.pipeline_version_id]
    assert (version.name, version.display_name) == (COMMIT, COMMIT)
    assert kfp_server.pipelines[version.pipeline_id].name == "ndpnet-training"
    assert run.runtime_config.parameters == ARGUMENTS
    assert kfp_server.experiments[run.experiment_id].display_name == "ndpnet"
    assert submitted.is_new
    assert submitted.url == f"{kfp_server.url}/#/runs/details/{run.run_id}"
    assert cluster.server_version == "2.17.0"


def test_the_same_request_twice_makes_one_of_everything(
    kfp_server: KfpServer, cluster: Cluster, package: Package
) -> None:
    first, second = submit(cluster, package), submit(cluster, package)
    assert (first.run_id, second.is_new) == (second.run_id, False)
    assert [len(each) for each in (kfp_server.versions, kfp_server.experiments, kfp_server.runs)] == [1, 1, 1]
    assert submit(cluster, package, request_id="two").is_new
    assert [len(each) for each in (kfp_server.versions, kfp_server.experiments, kfp_server.runs)] == [1, 1, 2]


def test_another_package_under_the_same_name_is_refused(
    kfp_server: KfpServer, cluster: Cluster, package: Package, other_package: Package
) -> None:
    assert upload_version(cluster, package, COMMIT).is_new
    assert not upload_version(cluster, package, COMMIT).is_new
    with pytest.raises(ValueError, match=f"version {COMMIT} of pipeline ndpnet-training is another package"):
        upload_version(cluster, other_package, COMMIT)
    assert len(kfp_server.versions) == 1


def test_versions_beyond_the_first_page_are_found(kfp_server: KfpServer, cluster: Cluster, package: Package) -> None:
    pages = [upload_version(cluster, package, f"{number}").version_id for number in range(5)]
    assert len(set(pages)) == 5
    call = cluster.client.pipelines.pipeline_service_list_pipeline_versions
    (pipeline_id,) = kfp_server.pipelines
    assert [each.name for each in cluster.pages(call, "pipeline_versions", pipeline_id=pipeline_id)] == list("01234")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_reading_is_repeated_until_the_server_is_back(
    kfp_server: KfpServer, cluster: Cluster, package: Package, status: int
) -> None:
    kfp_server.faults.append(Fault("GET .*", status=status, times=2))
    assert upload_version(cluster, package, COMMIT).is_new


def test_a_server_that_stays_broken_gives_one_line_after_the_last_attempt(
    kfp_server: KfpServer, cluster: Cluster, package: Package
) -> None:
    kfp_server.faults.append(Fault("GET .*pipelines.*", status=500, times=99))
    with pytest.raises(LostError, match=r"fails \(HTTP 500\): injected failure"):
        upload_version(cluster, package, COMMIT)
    assert kfp_server.num_calls("GET .*pipelines.*") == QUICK.num_attempts


def test_a_hanging_server_is_waited_for_no_longer_than_said(
    kfp_server: KfpServer, cluster: Cluster, package: Package
) -> None:
    kfp_server.faults.append(Fault("GET .*names.*", hang=1.5, times=1))
    start = time.monotonic()
    assert upload_version(cluster, package, COMMIT).is_new
    assert time.monotonic() - start < 1.4
    assert kfp_server.num_calls("GET .*names.*") == 2


@pytest.mark.parametrize("fault", [Fault(CREATE_RUN, status=500), Fault(CREATE_RUN, hang=0.8)], ids=["500", "hang"])
@pytest.mark.parametrize("is_late", [False, True], ids=["before it did anything", "after it had made the run"])
def test_a_lost_answer_makes_no_second_run(
    kfp_server: KfpServer, cluster: Cluster, package: Package, fault: Fault, is_late: bool
) -> None:
    kfp_server.faults.append(Fault(fault.pattern, fault.status, fault.hang, is_late=is_late))
    submitted = submit(cluster, package)
    assert list(kfp_server.runs) == [submitted.run_id]
    assert kfp_server.num_calls(CREATE_RUN) == (1 if is_late else 2)


@pytest.mark.parametrize("pattern", [UPLOAD, "POST .*/pipelines", "POST .*/experiments"])
@pytest.mark.parametrize("is_late", [False, True])
def test_a_lost_answer_makes_nothing_else_twice(
    kfp_server: KfpServer, cluster: Cluster, package: Package, pattern: str, is_late: bool
) -> None:
    kfp_server.faults.append(Fault(pattern, status=502, is_late=is_late))
    submit(cluster, package)
    things = (kfp_server.pipelines, kfp_server.versions, kfp_server.experiments, kfp_server.runs)
    assert [len(each) for each in things] == [1, 1, 1, 1]


def test_what_another_one_makes_meanwhile_is_taken(kfp_server: KfpServer, cluster: Cluster, package: Package) -> None:
    # both look, both find nothing, the other one is first: 409
    other = connect(kfp_server.url, patience=QUICK)
    find = cluster.client.experiments.experiment_service_list_experiments

    def find_and_be_overtaken(**options: object):
        found = find(**options)
        if not kfp_server.experiments:
            find_or_create_experiment(other, "ndpnet")
        return found

    cluster.client.experiments.experiment_service_list_experiments = find_and_be_overtaken
    assert find_or_create_experiment(cluster, "ndpnet") in kfp_server.experiments
    assert len(kfp_server.experiments) == 1
    assert kfp_server.num_calls("POST .*/experiments") == 2


def test_without_a_valid_token_nothing_is_tried_twice(
    kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kfp_server.token = "the-right-token"
    for token in (None, "a-wrong-secret-token"):
        if token:
            monkeypatch.setenv("KFP_TOKEN", token)
        with (
            caplog.at_level(logging.DEBUG),
            pytest.raises(ClusterError, match=r"wants a login .*set KFP_TOKEN") as error,
        ):
            connect(kfp_server.url, patience=QUICK)
        assert error.value.status == 401
        assert "a-wrong-secret-token" not in str(error.value) + caplog.text
    assert len(kfp_server.calls) == 2
    monkeypatch.setenv("KFP_TOKEN", "the-right-token")
    assert connect(kfp_server.url).server_version == "2.17.0"


def test_a_login_page_is_told_from_a_server(kfp_server: KfpServer) -> None:
    kfp_server.faults.append(Fault("GET .*healthz", page="<html>Log in</html>"))
    with pytest.raises(ClusterError, match="shows a login page"):
        connect(kfp_server.url, patience=QUICK)


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
            connect(f"https://{address}", patience=QUICK)
        monkeypatch.setenv("KFP_CA_CERT", str(tmp_path / "only.pem"))
        assert connect(f"https://{address}", patience=QUICK).server_version == "2.17.0"


def test_errors_say_what_the_server_says(kfp_server: KfpServer, cluster: Cluster, package: Package) -> None:
    version = upload_version(cluster, package, COMMIT)
    values = {"job_name": "x", "request_id": "x", "arguments": {}}
    with pytest.raises(ClusterError, match="has no such thing: Experiment nowhere not found") as error:
        create_run(cluster, version, experiment_id="nowhere", **values)
    assert error.value.status == 404
    kfp_server.faults.append(Fault("POST .*/experiments", status=403))
    with pytest.raises(ClusterError, match="forbids it: injected failure"):
        find_or_create_experiment(cluster, "ndpnet")


def test_a_server_for_many_users_is_told_whose_namespace(
    kfp_server: KfpServer, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp_server.is_multi_user = True
    with pytest.raises(ValueError, match="say whose"):
        connect(kfp_server.url)
    monkeypatch.setenv("KFP_NAMESPACE", "vision")
    submit(connect(kfp_server.url), package)
    assert [each.namespace for each in kfp_server.experiments.values()] == ["vision"]
    assert [each.namespace for each in kfp_server.pipelines.values()] == ["vision"]


def test_a_server_for_one_user_is_told_no_namespace(kfp_server: KfpServer, package: Package) -> None:
    submit(connect(kfp_server.url, namespace="vision"), package)  # it would refuse one
    assert [each.namespace for each in kfp_server.experiments.values()] == [None]


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
        connect("http://127.0.0.1:9", patience=QUICK)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "needs a value of parameter params"),
        ({"params": {"seed": 1}}, "parameter params of pipeline ndpnet-training is a STRING"),
        ({"params": "{}", "only_new_data": "true"}, "is a BOOLEAN"),
        ({"params": "{}", "revison": "main"}, "has no parameter revison .*only_new_data, params, revision"),
    ],
)
def test_arguments_are_checked_against_the_package(package: Package, arguments: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        package.check_arguments(arguments)
    package.check_arguments(ARGUMENTS)


def test_a_package_says_what_its_pods_ask_for(package: Package) -> None:
    assert package.images == [IMAGE]
    prepare, train = sorted(package.pods, key=lambda pod: pod.task)
    assert (prepare.num_gpus, prepare.secrets, prepare.claims) == (0, {}, frozenset())
    assert (train.gpu_type, train.num_gpus, train.cpu, train.memory) == ("nvidia.com/gpu", 1, "2", "8Gi")
    assert train.secrets == {"s3-keys": {"id", "key"}, "registry-login": frozenset()}
    assert (train.claims, train.node_labels, train.unknown) == ({"checkpoints"}, {"pool": "gpu"}, ())
    assert [each["key"] for each in train.tolerations] == ["nvidia.com/gpu"]


def test_what_is_no_package_is_named(tmp_path) -> None:
    for content in ("", "a: 1", "- x", "a: [", "\x00"):
        (tmp_path / "x.yaml").write_text(content)
        with pytest.raises(ValueError, match=r"x\.yaml.*ndpnet pipeline compile"):
            Package.load(tmp_path / "x.yaml")


def test_two_compilations_are_one_package(tmp_path, package: Package) -> None:
    assert compile_pipeline(tmp_path / "again.yaml").messages == package.messages
