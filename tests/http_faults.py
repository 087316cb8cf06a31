"""An HTTP server that passes requests on to a real one, and answers one of them itself: an error, or nonsense."""

import http.client
from contextlib import ExitStack
from typing import Self
from urllib.parse import urlsplit

from http_servers import Answer, Request, serving

DROPPED = ("connection", "transfer-encoding", "content-length", "host")


class Faults:
    """Forwards from a free loopback port. `number` counts the requests; number `at` gets `own`."""

    def __init__(self, target_url: str) -> None:
        self.target, self.url = urlsplit(target_url), ""
        self.number, self.at, self.own = 0, 0, Answer(500)
        self.asked: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.url = f"http://{self._stack.enter_context(serving(self._answer))}"
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def spoil(self, at: int, status: int, body: bytes) -> None:
        """Start counting anew; answer request number `at` with this."""
        self.number, self.at, self.own, self.asked = 0, at, Answer(status, body), []

    def _answer(self, request: Request) -> Answer:
        method, _, path = request.line.partition(" ")
        self.number += 1
        self.asked.append(f"{method} {path.partition('?')[0]}")
        if self.number == self.at:
            return self.own
        connection = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=60)
        try:
            connection.request(method, path, request.body, _kept(request.headers.items()))
            response = connection.getresponse()
            return Answer(response.status, response.read(), _kept(response.getheaders()))
        finally:
            connection.close()


def _kept(headers: list[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in DROPPED}
