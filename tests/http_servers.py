"""Small HTTP servers for the tests: a function answers, on a free port of this machine."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request: "METHOD /path?query", headers and body."""

    line: str
    headers: Any
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What is answered."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    num_missing: int = 0  # bytes that are announced and never come


@contextmanager
def serving(answer: Callable[[Request], Answer], *, certificate: Path | None = None) -> Iterator[str]:
    """Serve while the block runs, by TLS with a certificate and its key in one file. -> host:port"""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(answer))
    http.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        http.socket = context.wrap_socket(http.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()


def _handler_of(answer: Callable[[Request], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # one packet: two small ones would wait 40 ms for each other

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            result = answer(Request(f"{self.command} {self.path}", self.headers, body))
            try:
                self.send_response(result.status)
                for name, value in result.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(result.body) + result.num_missing))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(result.body)
                self.wfile.flush()
                self.close_connection = bool(result.num_missing)
            except (BrokenPipeError, ConnectionResetError):  # the client has waited long enough
                self.close_connection = True

        do_POST = do_DELETE = do_HEAD = do_GET  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    return Handler
