"""A connection to Kubeflow Pipelines: patient where repeating is harmless, errors in one line, no secret in any."""

import json
import logging
import os
import random
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import kfp
    import kfp_server_api

HOST, UI_HOST = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"  # kfp reads these two itself
TOKEN, COOKIE, CA_CERT, NAMESPACE = "KFP_TOKEN", "KFP_COOKIE", "KFP_CA_CERT", "KFP_NAMESPACE"
SYSTEM_NAMESPACE = "kubeflow"  # where Kubeflow Pipelines itself runs
MAX_MESSAGE = 300  # characters of what a server says
PAGE_SIZE = 100
NO_SERVER = f"{{host}} is no Kubeflow Pipelines server, or shows a login page (set {TOKEN} or {COOKIE})"

logger = logging.getLogger(__name__)


class ClusterError(ValueError):
    """What Kubeflow Pipelines refuses. status: of HTTP."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class LostError(ClusterError):
    """No answer, or that of a failing server: whether the call has done anything is not known."""


@dataclass(frozen=True)
class Patience:
    """How long a server may be away: with these figures half a minute. Times in seconds."""

    num_attempts: int = 6
    first_wait: float = 1.0  # doubles with every attempt
    longest_wait: float = 15.0
    connect_seconds: float = 5.0
    read_seconds: float = 30.0


class Cluster:
    """Kubeflow Pipelines as one user sees it. namespace: "" on a server for a single user."""

    def __init__(self, client: "kfp.Client", host: str, patience: Patience) -> None:
        self.client, self.patience = client, patience
        self.namespace, self.server_version = "", ""
        self.api_client = client.runs.run_service_get_run.__self__.api_client
        self.host = host or self.api_client.configuration.host
        # urllib3 would repeat a call by itself, at once
        self.api_client.rest_client.pool_manager.connection_pool_kw["retries"] = False

    def ask(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make a call that may be repeated; it is, while the server fails. ClusterError, LostError."""
        wait = self.patience.first_wait
        for attempt in range(1, self.patience.num_attempts + 1):
            try:
                return self.tell(call, *args, **kwargs)
            except LostError as error:
                if attempt == self.patience.num_attempts:
                    raise
                logger.warning("%s; attempt %d of %d", error, attempt + 1, self.patience.num_attempts)
                time.sleep(wait * random.uniform(0.75, 1.25))
                wait = min(2 * wait, self.patience.longest_wait)
        raise AssertionError("no attempt was made")

    def tell(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make a call once. ClusterError: refused; LostError: not known what it did."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        # the two as a pair: the client drops a single number that is no int
        timeout = (self.patience.connect_seconds, self.patience.read_seconds)
        try:
            answer = call(*args, _request_timeout=timeout, **kwargs)
        except ApiException as error:
            raise _explain(self.host, error) from error
        except AttributeError as error:  # the client stumbles over an error of its own that has no body
            if not isinstance(error.__context__, ApiException):
                raise
            raise _explain(self.host, error.__context__) from error
        except HTTPError as error:
            reason = f"{type(error).__name__} (is it up, and the address right?)"
            raise LostError(f"no answer from {self.host}: {reason}") from error
        if (self.api_client.last_response.getheader("content-type") or "").startswith("text/html"):
            raise ClusterError(NO_SERVER.format(host=self.host))  # the client would take it for an empty answer
        return answer

    def tell_or_find(self, call: Callable[[], Any], find: Callable[[], Any | None]) -> Any:
        """Make a call that must not be repeated blindly: after a lost one, `find` looks for what it may have made.

        What arrives at the server after it was looked for is not found.
        """
        for attempt in range(1, self.patience.num_attempts + 1):
            try:
                return self.tell(call)
            except LostError as error:
                time.sleep(self.patience.first_wait)
                found = find()
                if found is not None:
                    return found
                if attempt == self.patience.num_attempts:
                    raise
                logger.warning("%s; nothing was made, attempt %d", error, attempt + 1)
        raise AssertionError("no attempt was made")

    def pages(self, call: Callable[..., Any], field: str, **kwargs: Any) -> Iterator[Any]:
        """Yield what a listing has in `field`, page after page."""
        token = ""
        while True:
            page = self.ask(call, page_token=token, page_size=PAGE_SIZE, **kwargs)
            yield from getattr(page, field) or ()
            token = page.next_page_token
            if not token:
                return

    def read(self, path: str, take: Callable[[Any], Any], **path_params: str) -> Any:
        """What `take` makes of the HTTP response of a resource that the client's models do not cover."""

        def call(*, _request_timeout: tuple[float, float]) -> Any:
            options = {"auth_settings": ["Bearer"], "_preload_content": False, "_request_timeout": _request_timeout}
            response = self.api_client.call_api(path, "GET", path_params, **options)
            try:
                return take(response)
            finally:
                response.close()

        return self.ask(call)

    def url_of(self, kind: str, identifier: str) -> str:
        """Where people see it."""
        ui = os.environ.get(UI_HOST) or self.host
        return f"{ui.rstrip('/')}/#/{kind}/details/{identifier}"


def connect(host: str | None = None, namespace: str | None = None, patience: Patience | None = None) -> Cluster:
    """Connect as the environment says, and learn what server it is.

    host: else KF_PIPELINES_ENDPOINT, else the cluster that this pod is in or that the kubeconfig names. Credentials:
    KFP_TOKEN or KFP_COOKIE, else kfp's own ways. namespace: of a server for many users. ValueError: no such server,
    or it does not let us in.
    """
    host = (host or os.environ.get(HOST, "")).strip()
    if host:
        _check_host(host)
    elif not _has_kubernetes():
        raise ValueError(f"no Kubeflow Pipelines server is named (pass --host https://..., or set {HOST})")
    client = _make_client(host)
    cluster = Cluster(client, host, patience or Patience())
    health = _health(cluster)
    cluster.server_version = health.get("tag_name") or ""
    if health.get("multi_user"):
        cluster.namespace = namespace or os.environ.get(NAMESPACE) or client.get_user_namespace() or ""
        if not cluster.namespace:
            raise ValueError(f"{cluster.host} serves many users: say whose (pass --namespace, or set {NAMESPACE})")
    return cluster


def filter_by_name(name: str) -> str:
    """What lists take to show one name alone."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})


def _check_host(host: str) -> None:
    parts = urlsplit(host)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"host {parts.path or host!r} is no address (write https://HOST or http://HOST:PORT)")
    if parts.username or parts.password:
        raise ValueError(
            f"host {parts.scheme}://{parts.hostname} came with a password (set {TOKEN} or {COOKIE} instead)"
        )
    is_local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme == "http" and not is_local and (os.environ.get(TOKEN) or os.environ.get(COOKIE)):
        logger.warning("credentials go to %s unencrypted: use https", parts.hostname)


def _has_kubernetes() -> bool:
    paths = os.environ.get("KUBECONFIG", "").split(os.pathsep)
    return "KUBERNETES_SERVICE_HOST" in os.environ or any(
        Path(path).expanduser().is_file() for path in [*filter(None, paths), "~/.kube/config"]
    )


def _make_client(host: str) -> "kfp.Client":
    import kfp
    from kfp_server_api import V2beta1GetHealthzResponse

    class QuietClient(kfp.Client):
        """kfp's client, which asks the server nothing while it is made: it would try five times, with tracebacks."""

        def get_kfp_healthz(self, sleep_duration: int = 5) -> "kfp_server_api.V2beta1GetHealthzResponse":
            return V2beta1GetHealthzResponse(multi_user=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # that the server must be 2.0 or later
        return QuietClient(
            host=host or None,
            namespace=SYSTEM_NAMESPACE,
            existing_token=os.environ.get(TOKEN) or None,
            cookies=os.environ.get(COOKIE) or None,
            ssl_ca_cert=os.environ.get(CA_CERT) or None,
        )


def _health(cluster: Cluster) -> dict[str, Any]:
    """What the server says of itself; more than the client's model keeps."""
    text = cluster.read("/apis/v2beta1/healthz", lambda response: response.read(1 << 20))
    try:
        health = json.loads(text)
    except ValueError:
        health = None
    if not isinstance(health, dict) or "multi_user" not in health:
        raise ClusterError(NO_SERVER.format(host=cluster.host))
    return health


def _explain(host: str, error: "kfp_server_api.ApiException") -> ClusterError:
    status, said = error.status or 0, _said(error.body)
    if status in (408, 429) or status >= 500:
        return LostError(f"{host} fails (HTTP {status}): {said}", status)
    if not status:
        reason = " ".join(str(error.reason).split())[:MAX_MESSAGE]
        return ClusterError(f"no secure connection to {host}: {reason} (set {CA_CERT} to the file of its authority)")
    words = {
        403: f"forbids it: {said} (ask for the right in this namespace)",
        404: f"has no such thing: {said}",
        409: f"has it already: {said}",
    }
    if status == 401 or status < 400:
        words[status] = f"wants a login (HTTP {status}): set {TOKEN} or {COOKIE} to a valid one"
    return ClusterError(f"{host} {words.get(status, f'refuses it (HTTP {status}): {said}')}", status)


def _said(body: Any) -> str:
    from ndpnet.tracking.client import redact

    try:
        content = json.loads(body)
        text = content.get("message") or content.get("error") or content.get("error_message") or ""
    except (ValueError, TypeError, AttributeError):
        text = ""
    return redact(str(text))[:MAX_MESSAGE] or "no reason given"
