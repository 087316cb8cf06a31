"""An HTTP server that passes requests on to a real one, and answers one of them itself: an error, or nonsense."""

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

DROPPED = ("connection", "transfer-encoding", "content-length", "host")


class Faults:
    """Forwards from a free loopback port. `number` counts the requests; number `at` gets `answer`."""

    def __init__(self, target_url: str) -> None:
        self.target = urlsplit(target_url)
        self.number, self.at = 0, 0
        self.answer: tuple[int, bytes] = (500, b"")
        self.asked: list[str] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def spoil(self, at: int, status: int, body: bytes) -> None:
        """Start counting anew; answer request number `at` with this."""
        self.number, self.at, self.answer, self.asked = 0, at, (status, body), []

    def take(self, what: str) -> tuple[int, bytes] | None:
        """Count a request. -> the answer that it gets here, if any"""
        with self._lock:
            self.number += 1
            self.asked.append(what)
            return self.answer if self.number == self.at else None

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, list, bytes]:
        """Ask the real server."""
        connection = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        faults = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in DROPPED}
                own = faults.take(f"{self.command} {self.path.partition('?')[0]}")
                status, sent, content = (
                    (own[0], [], own[1]) if own else faults.forward(self.command, self.path, headers, body)
                )
                self.send_response(status)
                for name, value in sent:
                    if name.lower() not in DROPPED:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass_on  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler
