"""The manifests for a cluster: known fields, no root, no secret, and all fits together."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from documents import ROOT
from kubernetes import client

from ndpnet.cli import main
from ndpnet.config import load_params
from ndpnet.config_platform import cluster_of
from ndpnet.station.config import parse_station

FOLDER = ROOT / "deploy/kubernetes"
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml")
# by hand: `kubectl create`
JOBS = sorted((FOLDER / "training").glob("phase?.yaml"))
CLUSTER, PIPELINES = cluster_of(load_params()), "kubeflow"
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())


def documents(path: Path) -> list[dict[str, Any]]:
    """What a file declares."""
    return list(yaml.safe_load_all(path.read_text()))


TRAINERS = ("TrainJob", "TrainingRuntime")  # Trainer's kinds, whose classes are no dependency
SERVERS, SCALES = ("InferenceService",), ("minReplicas", "maxReplicas")  # nor are those of KServe
ALL = [(path, document) for path in FILES for document in documents(path)]


def of_kind(*kinds: str) -> dict[str, dict[str, Any]]:
    """Documents of some kinds, by name."""
    return {each["metadata"]["name"]: each for _, each in ALL if each["kind"] in kinds}


def pods() -> dict[str, dict[str, Any]]:
    """Pod specs, by the name of what makes the pods."""
    made = {name: each["spec"]["template"]["spec"] for name, each in of_kind("Deployment", "StatefulSet").items()}
    (runtime,) = of_kind("TrainingRuntime").values()
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    return made | {"training": node["template"]["spec"]["template"]["spec"], "press": serving()}


def serving() -> dict[str, Any]:
    """KServe's predictor but for its own fields: a pod."""
    (service,) = of_kind(*SERVERS).values()
    return {name: value for name, value in service["spec"]["predictor"].items() if name not in SCALES}


def as_read(document: dict[str, Any], model: type) -> dict[str, Any]:
    """What Kubernetes' own class for it takes: it drops what it does not know."""
    api = client.ApiClient()
    return api.sanitize_for_serialization(api.deserialize(SimpleNamespace(data=json.dumps(document)), model))


def class_of(document: dict[str, Any]) -> type | None:
    return getattr(client, f"V1{document['kind']}", None)


KNOWN = [
    pytest.param(each, class_of(each), id=f"{each['kind']}-{each['metadata']['name']}")
    for _, each in ALL
    if class_of(each)
]
KNOWN += [pytest.param(pods()[name], client.V1PodSpec, id=name) for name in ("training", "press")]  # that others make


@pytest.mark.parametrize(("document", "model"), KNOWN)
def test_kubernetes_knows_every_field(document: dict[str, Any], model: type) -> None:
    assert as_read(document, model) == document


def test_every_file_is_part_of_a_kustomization_or_a_job() -> None:
    assert {each["kind"] for _, each in ALL if not class_of(each)} == {*TRAINERS, *SERVERS}
    listed = set(JOBS)
    for path in FOLDER.rglob("kustomization.yaml"):
        for name in yaml.safe_load(path.read_text())["resources"]:
            target = path.parent / name
            assert target.exists(), target
            listed.add(target)
    assert set(FILES) <= listed


def test_no_secret_is_in_them() -> None:
    assert not of_kind("Secret")
    for name, pod in pods().items():
        for container in pod["containers"]:
            secret = [each for each in container.get("env", []) if re.search("PASSWORD|SECRET|KEY", each["name"])]
            assert all("secretKeyRef" in each["valueFrom"] for each in secret), name
    urls = [line for path in FILES for line in path.read_text().splitlines() if re.search(r"://[^/ ]*:[^/ ]*@", line)]
    assert [line.strip() for line in urls] == [
        "value: postgresql+psycopg://mlflow:$(POSTGRES_PASSWORD)@postgres:5432/mlflow"
    ]


@pytest.mark.parametrize("name", sorted(pods()))
def test_pods_run_as_nobody_on_a_read_only_root_without_a_token(name: str) -> None:
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == wanted
    account = of_kind("ServiceAccount")[pod["serviceAccountName"]]
    assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("name", sorted(of_kind("Deployment", "StatefulSet")))
def test_servers_are_pinned_probed_and_found_by_their_service(name: str) -> None:
    (container,) = pods()[name]["containers"]
    assert container["readinessProbe"]
    assert {"requests", "limits"} == set(container["resources"])
    service, server = of_kind("Service")[name], of_kind("Deployment", "StatefulSet")[name]
    labels = server["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == server["spec"]["selector"]["matchLabels"] == labels
    assert [port["port"] for port in service["spec"]["ports"]] == [port["containerPort"] for port in container["ports"]]


def test_the_versions_are_those_of_the_compose_file() -> None:
    services = COMPOSE["services"]
    for name in ("postgres", "store"):
        assert pods()[name]["containers"][0]["image"] == services[name]["image"]
    (mlflow,) = yaml.safe_load((FOLDER / "tracking/kustomization.yaml").read_text())["images"]
    assert f"{mlflow['name']}:{mlflow['newTag']}" == services["mlflow"]["image"]
    assert pods()["mlflow"]["containers"][0]["image"] == mlflow["name"]


def test_the_server_is_told_what_the_compose_file_tells_it() -> None:
    (container,) = pods()["mlflow"]["containers"]
    assert set(COMPOSE["services"]["mlflow"]["environment"]) <= {each["name"] for each in container["env"]}


def test_database_and_store_can_be_reached_by_mlflow_alone() -> None:
    policies = of_kind("NetworkPolicy")
    assert policies["nobody"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    allowed = {}
    for policy in policies.values():
        for rule in policy["spec"].get("ingress", []):
            (source,) = rule["from"]
            allowed[policy["spec"]["podSelector"]["matchLabels"]["app"]] = (source, rule["ports"][0]["port"])
    mlflow_alone = {"podSelector": {"matchLabels": {"app": "mlflow"}}}
    parts = [yaml.safe_load((FOLDER / part / "kustomization.yaml").read_text()) for part in ("station", "serving")]
    namespaces = [PIPELINES, *(part["namespace"] for part in parts)]
    named = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": namespaces}
    clients = {"namespaceSelector": {"matchExpressions": [named]}}
    assert allowed == {"postgres": (mlflow_alone, 5432), "store": (mlflow_alone, 8333), "mlflow": (clients, 5000)}


def test_the_station_is_told_what_it_knows_and_keeps_its_journal(tmp_path: Path) -> None:
    (values,) = of_kind("ConfigMap").values()
    config = parse_station(yaml.safe_load(values["data"]["station.yaml"]), base=tmp_path)
    (container,), (service,) = pods()["station"]["containers"], of_kind("Service")["station"]["spec"]["ports"]
    mounts = [each["mountPath"] for each in container["volumeMounts"]]
    assert f"/{config.folder.parts[1]}" in mounts
    assert str(config.server.token_file.parent) in mounts
    assert service["port"] == config.server.port
    assert of_kind("StatefulSet")["station"]["spec"]["replicas"] == 1  # a second one in the folder is refused


def test_a_served_model_is_asked_where_the_image_answers() -> None:
    (container,) = serving()["containers"]
    (port,) = container["ports"]
    (image,) = yaml.safe_load((FOLDER / "serving/kustomization.yaml").read_text())["images"]
    assert container["image"] == image["name"]
    target = (ROOT / "Dockerfile").read_text().partition(" AS serve\n")[2].partition("\nFROM ")[0]
    assert f"EXPOSE {port['containerPort']}\n" in target
    assert {probe["httpGet"]["port"] for name, probe in container.items() if name.endswith("Probe")} == {
        port["containerPort"]
    }
    assert f"${{{container['env'][0]['name']}:?" in target


def test_names_are_those_of_the_parameters() -> None:
    (volume,) = of_kind("PersistentVolumeClaim").values()
    assert volume["metadata"]["name"] == CLUSTER.work_pvc
    training = pods()["training"]
    assert training["volumes"][0]["persistentVolumeClaim"]["claimName"] == CLUSTER.work_pvc
    assert training["securityContext"]["runAsUser"] == CLUSTER.run_as_user
    named = [each["secretRef"]["name"] for each in training["containers"][0]["envFrom"]]
    assert named == [CLUSTER.mlflow_secret, CLUSTER.s3_secret]
    for part in ("pipelines", "training"):
        assert yaml.safe_load((FOLDER / part / "kustomization.yaml").read_text())["namespace"] == PIPELINES


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_the_jobs_train_as_they_say(path: Path) -> None:
    (job,) = documents(path)
    trainer = job["spec"]["trainer"]
    *torchrun, verb = trainer["command"]
    assert torchrun == ["torchrun", "--no-python", "ndpnet"]
    command = main.get_command(None, verb)
    options = command.make_context(verb, list(trainer["args"])).params  # refuses what the verb does not know
    params = load_params(profile="paper", overrides=options["overrides"])
    assert params.runtime.devices == trainer["numNodes"] * trainer["numProcPerNode"]
    gpus = {trainer["resourcesPerNode"][each][CLUSTER.gpu_resource] for each in ("requests", "limits")}
    assert gpus == {str(trainer["numProcPerNode"])}
    (mount,) = [each for each in pods()["training"]["containers"][0]["volumeMounts"] if each["name"] == "work"]
    folders = [value for name, value in options.items() if name in ("prepared", "bank", "phase1", "out", "work_dir")]
    assert all(str(folder).startswith(f"{mount['mountPath']}/") for folder in folders)
    assert job["spec"]["runtimeRef"]["name"] in of_kind("TrainingRuntime")
    digest = trainer["image"].partition("@")[2]
    assert trainer["env"] == [{"name": "NDPNET_IMAGE_DIGEST", "value": digest}]
