"""What a compiled pipeline asks of Kubernetes, compared with what is there: namespace, secrets, volumes, nodes."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.checks import attempt, make_check
from pipelines.package import Package, Pod

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, V1Node

    from ndpnet.doctor import Check

TIMEOUT = (5, 20)  # seconds, to connect and to read
NAMES = ("namespace", "secrets", "volumes", "nodes")
READY = ("Bound", "Pending")  # a claim may wait for its first pod


def check_kubernetes(package: Package, namespace: str) -> "Iterator[Check]":
    """Yield the checks; all are "not checked" where no kubeconfig leads to a cluster."""
    api, reason = _connect()
    if api is None:
        for name in NAMES:
            yield make_check(name, "not checked", reason, "set KUBECONFIG")
        return
    checks: dict[str, Callable[[], Check]] = {
        "namespace": lambda: _check_namespace(api, namespace),
        "secrets": lambda: _check_secrets(api, namespace, package.pods),
        "volumes": lambda: _check_claims(api, namespace, package.pods),
        "nodes": lambda: _check_nodes(api, package.pods),
    }
    for name, check in checks.items():
        yield attempt(name, lambda check=check: _without_noise(check))


def _connect() -> "tuple[CoreV1Api | None, str]":
    if not _has_kubeconfig():
        return None, "no kubeconfig"
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        config.load_kube_config(config_file=_kubeconfig(), client_configuration=settings)
    except (config.ConfigException, OSError, ValueError) as error:
        return None, f"the kubeconfig cannot be used: {' '.join(str(error).split())}"
    settings.retries = False
    return client.CoreV1Api(client.ApiClient(settings)), ""


def _has_kubeconfig() -> bool:
    return any(Path(path).expanduser().is_file() for path in _kubeconfig().split(os.pathsep) if path)


def _kubeconfig() -> str:
    """One file, or several of which one wins; the client reads the variable once, when it is imported."""
    return os.environ.get("KUBECONFIG", "~/.kube/config")


def _without_noise(check: "Callable[[], Check]") -> "Check":
    """Turn what the client raises into one line."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        return check()
    except ApiException as error:
        reason = {401: "the kubeconfig's login is not valid", 403: "the kubeconfig may not look at it"}
        raise ValueError(reason.get(error.status, f"Kubernetes answers HTTP {error.status}")) from error
    except HTTPError as error:
        raise ValueError(f"Kubernetes does not answer: {type(error).__name__}") from error


def _check_namespace(api: "CoreV1Api", namespace: str) -> "Check":
    found = _read(api.read_namespace, namespace)
    if found is None:
        return make_check("namespace", "FAILED", f"no namespace {namespace}", f"kubectl create namespace {namespace}")
    if found.status and found.status.phase == "Terminating":
        return make_check("namespace", "FAILED", f"{namespace} is being deleted", "wait, and create it again")
    return make_check("namespace", "ok", namespace)


def _check_secrets(api: "CoreV1Api", namespace: str, pods: list[Pod]) -> "Check":
    wanted: dict[str, set[str]] = {}
    for pod in pods:
        for name, keys in pod.secrets.items():
            wanted.setdefault(name, set()).update(keys)
    problems = []
    for name, keys in sorted(wanted.items()):
        secret = _read(api.read_namespaced_secret, name, namespace)
        if secret is None:
            problems.append(f"no secret {name}")
        else:  # the names of its keys alone, never a value
            problems += [f"secret {name} has no key {key}" for key in sorted(keys - (secret.data or {}).keys())]
    unknown = sorted({each for pod in pods for each in pod.unknown if "secret" in each})
    if problems:
        return make_check("secrets", "FAILED", "; ".join(problems), f"create them in namespace {namespace}")
    if unknown:
        return make_check(
            "secrets", "not checked", f"{', '.join(wanted) or 'none'} are there; others are named at run time"
        )
    return make_check("secrets", "ok", ", ".join(sorted(wanted)) or "none needed")


def _check_claims(api: "CoreV1Api", namespace: str, pods: list[Pod]) -> "Check":
    wanted = sorted({claim for pod in pods for claim in pod.claims})
    problems = []
    for name in wanted:
        claim = _read(api.read_namespaced_persistent_volume_claim, name, namespace)
        if claim is None:
            problems.append(f"no volume claim {name}")
        elif claim.status.phase not in READY:
            problems.append(f"volume claim {name} is {claim.status.phase}")
    if problems:
        return make_check("volumes", "FAILED", "; ".join(problems), f"create them in namespace {namespace}")
    if any("volume" in each for pod in pods for each in pod.unknown):
        return make_check("volumes", "not checked", "a volume is named at run time")
    return make_check("volumes", "ok", ", ".join(wanted) or "none needed")


def _check_nodes(api: "CoreV1Api", pods: list[Pod]) -> "Check":
    nodes = api.list_node(_request_timeout=TIMEOUT).items
    problems = []
    for pod in pods:
        reasons = [_why_not(node, pod) for node in nodes]
        if all(reasons):
            most = sorted(set(reasons), key=reasons.count)[-1] if reasons else "the cluster has none"
            problems.append(f"no node can run {pod.task} ({_request_of(pod)}): {most}")
    if problems:
        return make_check("nodes", "FAILED", "; ".join(problems), "ask for less, or add a node")
    if any("node" in each or "GPU" in each for pod in pods for each in pod.unknown):
        return make_check("nodes", "not checked", "requests are known at run time only")
    return make_check("nodes", "ok", f"every task fits one of {len(nodes)} nodes, if it is idle")


def _why_not(node: "V1Node", pod: Pod) -> str:
    """Why a node can never run a pod; "" if it can, once nothing else runs there."""
    labels, there = node.metadata.labels or {}, node.status.allocatable or {}
    if node.spec.unschedulable:
        return "nodes are cordoned"
    for key, value in pod.node_labels.items():
        if labels.get(key) != value:
            return f"label {key}={value} is missing"
    for taint in node.spec.taints or ():
        if taint.effect != "PreferNoSchedule" and not any(_tolerates(each, taint) for each in pod.tolerations):
            return f"taint {taint.key} is not tolerated"
    wanted = {"cpu": pod.cpu, "memory": pod.memory} | ({pod.gpu_type: str(pod.num_gpus)} if pod.num_gpus else {})
    for resource, amount in wanted.items():
        if amount and _quantity(there.get(resource, "0")) < _quantity(amount):
            return f"{resource} is {there.get(resource, '0')}"
    return ""


def _tolerates(toleration: Mapping[str, Any], taint: Any) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.effect:
        return False
    if toleration.get("key") and toleration["key"] != taint.key:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == (taint.value or "")


def _request_of(pod: Pod) -> str:
    parts = [f"{pod.num_gpus} {pod.gpu_type}" if pod.num_gpus else "", pod.cpu and f"cpu {pod.cpu}", pod.memory]
    return ", ".join(filter(None, parts)) or "nothing special"


def _quantity(text: str) -> Any:
    from kubernetes.utils.quantity import parse_quantity

    return parse_quantity(text)


def _read(call: Callable[..., Any], *names: str) -> Any | None:
    """What has this name; None where nothing has."""
    from kubernetes.client.exceptions import ApiException

    try:
        return call(*names, _request_timeout=TIMEOUT)
    except ApiException as error:
        if error.status == 404:
            return None
        raise
