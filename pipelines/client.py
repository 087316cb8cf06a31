"""A connection to Kubeflow Pipelines: kfp's own client, with errors in one line and no secret in any."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import kfp
    from kfp_server_api import V2beta1GetHealthzResponse

HOST, UI_HOST = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"  # kfp reads these two itself
TOKEN, COOKIE, CA_CERT, NAMESPACE = "KFP_TOKEN", "KFP_COOKIE", "KFP_CA_CERT", "KFP_NAMESPACE"
MAX_MESSAGE = 300  # characters of what a server says
TIMEOUT = {"connect": 5.0, "read": 30.0}  # seconds


class ClusterError(ValueError):
    """What Kubeflow Pipelines refuses."""


class LostError(ClusterError):
    """No answer, or that of a failing server: whether the call has done anything is not known."""


class Cluster:
    """Kubeflow Pipelines as one user sees it. namespace: None on a server for a single user."""

    def __init__(self, client: "kfp.Client", host: str) -> None:
        self._client, self.host = client, host
        self.namespace: str | None = None

    @contextmanager
    def asking(self) -> Iterator["kfp.Client"]:
        """The client, for one call: what it prints goes to standard error. ClusterError: refused; LostError."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        from ndpnet.redaction import redact

        try:
            with redirect_stdout(sys.stderr):
                yield self._client
        except ApiException as error:
            status = error.status or 0
            kind = LostError if status == 429 or status >= 500 else ClusterError
            fix = f" (set {TOKEN} or {COOKIE})" if status in (0, 302, 401) else ""
            said = redact(error.body or error.reason)[:MAX_MESSAGE]
            raise kind(f"{self.host} answers HTTP {status}: {said}{fix}") from error
        except HTTPError as error:
            reason = redact(getattr(error, "reason", None) or error)[:MAX_MESSAGE]
            text = f"no answer from {self.host}: {reason} (check the address; {CA_CERT} names an own authority)"
            raise LostError(text) from error

    def url_of(self, run_id: str) -> str:
        """Where people see a run."""
        return f"{(os.environ.get(UI_HOST) or self.host).rstrip('/')}/#/runs/details/{run_id}"


def connect(host: str | None = None, namespace: str | None = None) -> Cluster:
    """Connect as the environment says. ValueError: no such server, or it does not let us in.

    host: else KF_PIPELINES_ENDPOINT, else the cluster that this pod is in or that the kubeconfig names. Credentials:
    KFP_TOKEN or KFP_COOKIE, else kfp's own ways. namespace: of a server for many users.
    """
    host = (host or os.environ.get(HOST, "")).strip()
    if host and not _is_address(host):
        raise ValueError(f"the host is no address without a password (write https://HOST, and set {TOKEN} or {COOKIE})")
    client = _make_client(host)
    cluster = Cluster(client, host or client.runs.run_service_get_run.__self__.api_client.configuration.host)
    with cluster.asking():
        is_multi_user = client.healthzs.healthz_service_get_healthz().multi_user
    if is_multi_user is None:
        raise ClusterError(f"{cluster.host} is no Kubeflow Pipelines, or shows a login page (set {TOKEN} or {COOKIE})")
    if is_multi_user:
        cluster.namespace = namespace or os.environ.get(NAMESPACE) or client.get_user_namespace() or None
        if cluster.namespace is None:
            raise ValueError(f"{cluster.host} serves many users: say whose (pass --namespace, or set {NAMESPACE})")
    return cluster


def _is_address(host: str) -> bool:
    """Whether it is one without a password."""
    try:
        parts = urlsplit(host)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.username or parts.password)


def _make_client(host: str) -> "kfp.Client":
    import kfp
    from kfp_server_api import V2beta1GetHealthzResponse
    from urllib3 import Timeout

    class QuietClient(kfp.Client):
        """kfp's client, which asks the server nothing while it is made: it would try five times, with tracebacks."""

        def get_kfp_healthz(self, sleep_duration: int = 5) -> "V2beta1GetHealthzResponse":
            return V2beta1GetHealthzResponse(multi_user=False)

    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # a line for each retry; the last one is said
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the server must be 2.0 or later
        client = QuietClient(
            host=host or None,
            existing_token=os.environ.get(TOKEN) or None,
            cookies=os.environ.get(COOKIE) or None,
            ssl_ca_cert=os.environ.get(CA_CERT) or None,
        )
    pool = client.runs.run_service_get_run.__self__.api_client.rest_client.pool_manager
    request = pool.request
    # the client's methods take no limit, and without one a silent server is waited for without end
    pool.request = lambda *args, **kwargs: request(*args, **kwargs | {"timeout": Timeout(**TIMEOUT)})
    return client
