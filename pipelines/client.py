"""A connection to Kubeflow Pipelines: kfp's own client, with errors in one line and no secret in any."""

import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import kfp
    from kfp_server_api import ApiException, V2beta1GetHealthzResponse
    from urllib3.exceptions import HTTPError

HOST, UI_HOST = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"  # kfp reads these two itself
TOKEN, COOKIE, CA_CERT, NAMESPACE = "KFP_TOKEN", "KFP_COOKIE", "KFP_CA_CERT", "KFP_NAMESPACE"
MAX_MESSAGE = 300  # characters of what a server says
PAGE_SIZE = 100
TIMEOUT = {"connect": 5.0, "read": 30.0}  # seconds
FAILING = (429, 500, 502, 503, 504)  # HTTP
# of urllib3: what reads is repeated alone, and nothing whose certificate is wrong
RETRIES = {"total": 3, "other": 0, "backoff_factor": 1.0, "allowed_methods": ("GET",), "status_forcelist": FAILING}
NO_SERVER = f"{{host}} is no Kubeflow Pipelines server, or shows a login page (set {TOKEN} or {COOKIE})"


class ClusterError(ValueError):
    """What Kubeflow Pipelines refuses."""


class LostError(ClusterError):
    """No answer, or that of a failing server: whether the call has done anything is not known."""


class Cluster:
    """Kubeflow Pipelines as one user sees it. namespace: None on a server for a single user."""

    def __init__(self, client: "kfp.Client", host: str) -> None:
        self._client = client
        self._api = client.runs.run_service_get_run.__self__.api_client
        self.host, self.namespace = host or self._api.configuration.host, None

    @contextmanager
    def asking(self) -> Iterator["kfp.Client"]:
        """The client, for one call: what it prints goes to standard error. ClusterError: refused; LostError."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        try:
            with redirect_stdout(sys.stderr):
                yield self._client
        except ApiException as error:
            raise _refusal(self.host, error) from error
        except HTTPError as error:
            raise _loss(self.host, error) from error
        if (self._api.last_response.getheader("content-type") or "").startswith("text/html"):
            raise ClusterError(NO_SERVER.format(host=self.host))  # the client would take it for an empty answer

    def pages(self, call: str, field: str, **options: Any) -> Iterator[Any]:
        """Yield what a listing of the client has in `field`, page after page."""
        token: str | None = ""
        while token is not None:
            with self.asking() as client:
                page = getattr(client, call)(page_token=token, page_size=PAGE_SIZE, **options)
            yield from getattr(page, field) or ()
            token = page.next_page_token or None

    def url_of(self, run_id: str) -> str:
        """Where people see a run."""
        return f"{(os.environ.get(UI_HOST) or self.host).rstrip('/')}/#/runs/details/{run_id}"


def connect(host: str | None = None, namespace: str | None = None) -> Cluster:
    """Connect as the environment says. ValueError: no such server, or it does not let us in.

    host: else KF_PIPELINES_ENDPOINT, else the cluster that this pod is in or that the kubeconfig names. Credentials:
    KFP_TOKEN or KFP_COOKIE, else kfp's own ways. namespace: of a server for many users.
    """
    host = (host or os.environ.get(HOST, "")).strip()
    if host:
        _check_host(host)
    elif not _has_kubernetes():
        raise ValueError(f"no Kubeflow Pipelines server is named (pass --host https://..., or set {HOST})")
    cluster = Cluster(_make_client(host), host)
    with cluster.asking() as client:
        is_multi_user = client.healthzs.healthz_service_get_healthz().multi_user
    if is_multi_user is None:
        raise ClusterError(NO_SERVER.format(host=cluster.host))
    if is_multi_user:
        cluster.namespace = namespace or os.environ.get(NAMESPACE) or client.get_user_namespace() or None
        if cluster.namespace is None:
            raise ValueError(f"{cluster.host} serves many users: say whose (pass --namespace, or set {NAMESPACE})")
    return cluster


def _check_host(host: str) -> None:
    parts = urlsplit(host)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"host {parts.path or host!r} is no address (write https://HOST or http://HOST:PORT)")
    if parts.username or parts.password:
        plain = f"{parts.scheme}://{parts.hostname}"
        raise ValueError(f"host {plain} came with a password (set {TOKEN} or {COOKIE} instead)")


def _has_kubernetes() -> bool:
    paths = os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(Path(path).expanduser().is_file() for path in paths)


def _make_client(host: str) -> "kfp.Client":
    import kfp
    from kfp_server_api import V2beta1GetHealthzResponse
    from urllib3 import Retry, Timeout

    class QuietClient(kfp.Client):
        """kfp's client, which asks the server nothing while it is made: it would try five times, with tracebacks."""

        def get_kfp_healthz(self, sleep_duration: int = 5) -> "V2beta1GetHealthzResponse":
            return V2beta1GetHealthzResponse(multi_user=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the server must be 2.0 or later
        client = QuietClient(
            host=host or None,
            existing_token=os.environ.get(TOKEN) or None,
            cookies=os.environ.get(COOKIE) or None,
            ssl_ca_cert=os.environ.get(CA_CERT) or None,
        )
    pool = client.runs.run_service_get_run.__self__.api_client.rest_client.pool_manager
    request, limits = pool.request, {"timeout": Timeout(**TIMEOUT), "retries": Retry(**RETRIES, raise_on_status=False)}
    # the client's methods take no limits, and without them a silent server is waited for without end
    pool.request = lambda *args, **kwargs: request(*args, **kwargs | limits)
    return client


def _refusal(host: str, error: "ApiException") -> ClusterError:
    status, said = error.status or 0, _said(error.body)
    if status in FAILING:
        return LostError(f"{host} fails (HTTP {status}): {said}")
    if status == 401 or status < 400:
        return ClusterError(f"{host} wants a login (HTTP {status}): set {TOKEN} or {COOKIE} to a valid one")
    if status == 403:
        return ClusterError(f"{host} forbids it: {said} (ask for the right in this namespace)")
    return ClusterError(f"{host} {'has no such thing' if status == 404 else f'refuses it (HTTP {status})'}: {said}")


def _loss(host: str, error: "HTTPError") -> ClusterError:
    from urllib3.exceptions import SSLError

    reason = getattr(error, "reason", None) or error
    if isinstance(reason, SSLError):
        text = " ".join(str(reason).split())[:MAX_MESSAGE]
        return ClusterError(f"no secure connection to {host}: {text} (set {CA_CERT} to the file of its authority)")
    return LostError(f"no answer from {host}: {type(reason).__name__} (is it up, and the address right?)")


def _said(body: Any) -> str:
    from ndpnet.redaction import redact

    try:
        content = json.loads(body)
        text = content.get("message") or content.get("error") or content.get("error_message") or ""
    except (ValueError, TypeError, AttributeError):
        text = ""
    return redact(str(text))[:MAX_MESSAGE] or "no reason given"
