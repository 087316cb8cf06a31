import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import kubernetes.client as k8s
import pytest
import yaml
from conftest import compile_pipeline
from http_servers import Answer, Request, serving
from kfp_server import KfpServer
from servers import S3Server

from ndpnet.doctor import Check, format_checks, has_failed
from pipelines import image_registry
from pipelines.client import Cluster
from pipelines.image_registry import find_image
from pipelines.kubernetes_checks import check_kubernetes
from pipelines.package import Package
from pipelines.preflight import check_cluster, check_image_is_there, check_prefix, check_versions

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "sha256:" + "a" * 64
NAMESPACE = "vision"


# ---- Kubernetes


class Kubernetes:
    """An API server with what a test puts there; its answers are made from Kubernetes' own models."""

    def __init__(self) -> None:
        self.things: dict[str, object] = {
            f"/api/v1/namespaces/{NAMESPACE}": k8s.V1Namespace(status=k8s.V1NamespaceStatus(phase="Active")),
            self.path("secrets", "registry-login"): k8s.V1Secret(data={".dockerconfigjson": "e30="}),
            self.path("secrets", "s3-keys"): k8s.V1Secret(data={"id": "SECRETID", "key": "SECRETKEY"}),
            self.path("persistentvolumeclaims", "checkpoints"): k8s.V1PersistentVolumeClaim(
                status=k8s.V1PersistentVolumeClaimStatus(phase="Bound")
            ),
        }
        self.nodes = [node("cpu-1"), gpu_node("gpu-1")]
        self.status = 200

    @staticmethod
    def path(kind: str, name: str) -> str:
        return f"/api/v1/namespaces/{NAMESPACE}/{kind}/{name}"

    def answer(self, request: Request) -> Answer:
        path = urlsplit(request.line.partition(" ")[2]).path
        if self.status != 200:
            return Answer(self.status, b"{}")
        found = k8s.V1NodeList(items=self.nodes) if path == "/api/v1/nodes" else self.things.get(path)
        if found is None:
            return Answer(404, b"{}")
        return Answer(200, json.dumps(k8s.ApiClient().sanitize_for_serialization(found)).encode())


def node(name: str, *, labels: dict | None = None, taints: list | None = None, **allocatable: str) -> k8s.V1Node:
    return k8s.V1Node(
        metadata=k8s.V1ObjectMeta(name=name, labels=labels or {}),
        spec=k8s.V1NodeSpec(taints=taints),
        status=k8s.V1NodeStatus(allocatable={"cpu": "3920m", "memory": "15Gi", **allocatable}),
    )


def gpu_node(name: str, num_gpus: int = 4, **values: object) -> k8s.V1Node:
    taints = [k8s.V1Taint(key="nvidia.com/gpu", effect="NoSchedule", value="present")]
    made = node(name, **{"labels": {"pool": "gpu"}, "taints": taints} | values)
    made.status.allocatable["nvidia.com/gpu"] = str(num_gpus)
    return made


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    server = Kubernetes()
    with serving(server.answer) as address:
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
            "clusters": [{"name": "here", "cluster": {"server": f"http://{address}"}}],
            "users": [{"name": "me", "user": {"token": "t"}}],
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield server


def checks_of(package: Package) -> dict[str, Check]:
    return {check.name: check for check in check_kubernetes(package, NAMESPACE)}


def test_a_cluster_that_has_all_of_it_passes(kubernetes: Kubernetes, package: Package) -> None:
    checks = checks_of(package)
    assert {check.verdict for check in checks.values()} == {"ok"}
    assert checks["secrets"].found == "registry-login, s3-keys"
    assert "SECRET" not in format_checks(checks.values())


def test_without_a_kubeconfig_nothing_passes(package: Package) -> None:
    checks = checks_of(package)
    assert {(check.verdict, check.found) for check in checks.values()} == {("not checked", "no kubeconfig")}
    assert not has_failed(checks.values())
    assert format_checks(checks.values()).endswith("4 checks: 4 not checked")


def remove_secret(there: Kubernetes) -> None:
    del there.things[there.path("secrets", "s3-keys")]


def remove_key(there: Kubernetes) -> None:
    there.things[there.path("secrets", "s3-keys")] = k8s.V1Secret(data={"id": "SECRETID"})


def remove_claim(there: Kubernetes) -> None:
    del there.things[there.path("persistentvolumeclaims", "checkpoints")]


def lose_claim(there: Kubernetes) -> None:
    there.things[there.path("persistentvolumeclaims", "checkpoints")].status.phase = "Lost"


def remove_namespace(there: Kubernetes) -> None:
    del there.things[f"/api/v1/namespaces/{NAMESPACE}"]


def nodes(*made: k8s.V1Node) -> Callable[[Kubernetes], None]:
    return lambda there: setattr(there, "nodes", list(made))


@pytest.mark.parametrize(
    ("change", "name", "found"),
    [
        (remove_secret, "secrets", "no secret s3-keys"),
        (remove_key, "secrets", "secret s3-keys has no key key"),
        (remove_claim, "volumes", "no volume claim checkpoints"),
        (lose_claim, "volumes", "volume claim checkpoints is Lost"),
        (remove_namespace, "namespace", "no namespace vision"),
        (nodes(), "nodes", "the cluster has none"),
        (nodes(node("a", labels={"pool": "gpu"})), "nodes", "nvidia.com/gpu is 0"),
        (nodes(gpu_node("a", 0)), "nodes", "nvidia.com/gpu is 0"),
        (nodes(gpu_node("a", labels={"pool": "cpu"})), "nodes", "label pool=gpu is missing"),
        (nodes(gpu_node("a", cpu="1900m")), "nodes", "cpu is 1900m"),
        (nodes(gpu_node("a", memory="8000000Ki")), "nodes", "memory is 8000000Ki"),  # 8Gi are more
        (nodes(gpu_node("a", taints=[k8s.V1Taint(key="dedicated", effect="NoExecute")])), "nodes", "taint dedicated"),
    ],
)
def test_what_is_missing_is_named(
    kubernetes: Kubernetes, package: Package, change: Callable[[Kubernetes], None], name: str, found: str
) -> None:
    change(kubernetes)
    checks = checks_of(package)
    assert checks[name].verdict == "FAILED"
    assert found in checks[name].found
    assert checks[name].mend
    assert has_failed(checks.values())
    others = {check.verdict for check in checks.values() if check.name != name}
    assert others == {"ok"}


@pytest.mark.parametrize(("status", "found"), [(401, "not valid"), (403, "may not look"), (500, "HTTP 500")])
def test_what_cannot_be_asked_does_not_pass(kubernetes: Kubernetes, package: Package, status: int, found: str) -> None:
    kubernetes.status = status
    checks = checks_of(package)
    assert {check.verdict for check in checks.values()} == {"not checked"}
    assert all(found in check.found for check in checks.values())


# ---- the registry


class Registry:
    """A registry that gives tokens to those who may pull."""

    def __init__(self) -> None:
        self.manifests = {("team/ndpnet", DIGEST): DIGEST, ("team/ndpnet", f"v1-{COMMIT[:8]}"): DIGEST}
        self.login = ""  # user:password; "" lets everybody pull
        self.with_tokens = True
        self.address = ""

    def answer(self, request: Request) -> Answer:
        method, _, target = request.line.partition(" ")
        parts = urlsplit(target)
        authorization = request.headers.get("Authorization", "")
        basic = "Basic " + base64.b64encode(self.login.encode()).decode()
        if parts.path == "/token":
            assert parse_qs(parts.query)["scope"] == ["repository:team/ndpnet:pull"]
            may = not self.login or authorization == basic
            return Answer(200, b'{"token": "pull-token"}') if may else Answer(401, b"{}")
        if authorization != ("Bearer pull-token" if self.with_tokens else basic):
            scope = f'Bearer realm="http://{self.address}/token",service="r",scope="repository:team/ndpnet:pull"'
            return Answer(401, headers={"WWW-Authenticate": scope if self.with_tokens else 'Basic realm="r"'})
        assert method == "HEAD"
        assert "application/vnd.oci.image.index.v1+json" in request.headers["Accept"]
        name, _, reference = parts.path.removeprefix("/v2/").partition("/manifests/")
        digest = self.manifests.get((name, reference))
        return Answer(200, b"", {"Docker-Content-Digest": digest}) if digest else Answer(404)


@pytest.fixture
def registry() -> Iterator[Registry]:
    server = Registry()
    with serving(server.answer) as server.address:
        yield server


def docker_login(folder: Path, registry: Registry, login: str) -> None:
    (folder / ".docker").mkdir()
    entry = {registry.address: {"auth": base64.b64encode(login.encode()).decode()}}
    (folder / ".docker/config.json").write_text(json.dumps({"auths": entry}))


def test_an_image_is_found_by_digest_and_by_tag(registry: Registry) -> None:
    for reference in (f"@{DIGEST}", f":v1-{COMMIT[:8]}"):
        image = f"{registry.address}/team/ndpnet{reference}"
        assert find_image(image) == DIGEST
        assert check_image_is_there(image, COMMIT).verdict == "ok"


@pytest.mark.parametrize("with_tokens", [True, False])
def test_the_login_of_docker_is_used(registry: Registry, tmp_path: Path, with_tokens: bool) -> None:
    registry.login, registry.with_tokens = "me:a-secret-password", with_tokens
    image = f"{registry.address}/team/ndpnet@{DIGEST}"
    with pytest.raises(PermissionError, match="docker login"):
        find_image(image)
    assert check_image_is_there(image, COMMIT).verdict == "not checked"  # a node may have a login of its own
    docker_login(tmp_path, registry, registry.login)
    assert find_image(image) == DIGEST


def test_what_the_registry_has_not_is_a_failure(registry: Registry) -> None:
    missing = "sha256:" + "b" * 64
    check = check_image_is_there(f"{registry.address}/team/ndpnet@{missing}", COMMIT)
    assert check.verdict == "FAILED"
    assert "(push it)" in check.found


def test_a_registry_that_lies_about_a_digest_is_a_failure(registry: Registry) -> None:
    registry.manifests["team/ndpnet", DIGEST] = "sha256:" + "c" * 64
    assert "not with the digest" in check_image_is_there(f"{registry.address}/team/ndpnet@{DIGEST}", COMMIT).found


def test_a_mutable_tag_is_not_even_asked_for(registry: Registry) -> None:
    registry.manifests["team/ndpnet", "latest"] = DIGEST
    check = check_image_is_there(f"{registry.address}/team/ndpnet:latest", COMMIT)
    assert (check.verdict, "can be moved" in check.found) == ("FAILED", True)


def test_a_registry_that_cannot_be_reached_is_not_checked() -> None:
    check = check_image_is_there(f"127.0.0.1:9/team/ndpnet@{DIGEST}", COMMIT)
    assert (check.verdict, check.found[:33]) == ("not checked", "127.0.0.1:9 does not answer from ")


def test_a_login_does_not_follow_to_another_host(registry: Registry, tmp_path: Path) -> None:
    seen = []

    def elsewhere(request: Request) -> Answer:
        seen.append(request.headers.get("Authorization"))
        return Answer(200, headers={"Docker-Content-Digest": DIGEST})

    with (
        serving(elsewhere) as other,
        serving(lambda _: Answer(307, headers={"Location": f"http://{other}/x"})) as first,
    ):
        login = base64.b64encode(b"me:secret").decode()
        (tmp_path / ".docker").mkdir()
        (tmp_path / ".docker/config.json").write_text(json.dumps({"auths": {first: {"auth": login}}}))
        assert find_image(f"{first}/team/ndpnet@{DIGEST}") == DIGEST
    assert seen == [None]


def test_a_login_is_not_sent_unencrypted(registry: Registry) -> None:
    image = image_registry.parse_image(f"{registry.address}/team/ndpnet@{DIGEST}")
    with pytest.raises(ValueError, match="which is not encrypted"):
        image_registry._token('Bearer realm="http://elsewhere.example/token"', image, "bWU6c2VjcmV0")


# ---- versions, S3, and all together


@pytest.mark.parametrize(
    ("server", "verdict"),
    [
        ("2.17.0", "ok"),
        ("v2.17.3", "ok"),
        ("2.18.0-rc.1", "ok"),
        ("2.4.0", "warning"),
        ("3.0.0", "FAILED"),
        ("1.8.22", "FAILED"),
        ("", "not checked"),
        ("unknown", "not checked"),
    ],
)
def test_versions_are_compared(server: str, verdict: str) -> None:
    assert check_versions(server).verdict == verdict


def test_a_prefix_on_s3_is_listed(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    bucket = s3.make_bucket()
    assert check_prefix(f"s3://{bucket}/work") == Check(
        "S3", "ok", f"s3://{bucket}/work can be listed from here, it is empty"
    )
    assert check_prefix("s3://there-is-none/work").verdict == "FAILED"
    for name, value in s3.environment(can_read=False).items():
        monkeypatch.setenv(name, value)
    assert check_prefix(f"s3://{bucket}/work").verdict == "FAILED"


def test_all_checks_together(
    kfp_server: KfpServer, cluster: Cluster, kubernetes: Kubernetes, registry: Registry, tmp_path: Path
) -> None:
    package = compile_pipeline(tmp_path / "p.yaml", image=f"{registry.address}/team/ndpnet@{DIGEST}")
    checks = list(check_cluster(cluster, package, commit=COMMIT, namespace=NAMESPACE))
    verdicts = {check.name: check.verdict for check in checks}
    assert verdicts == {
        "versions": "ok",
        "image": "ok",
        "namespace": "ok",
        "secrets": "ok",
        "volumes": "ok",
        "nodes": "ok",
        "MLflow": "not checked",
    }
    assert format_checks(checks).endswith("7 checks: 6 ok, 1 not checked")
