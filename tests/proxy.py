"""A TCP proxy before a real server: it counts what comes back, and can slow or cut it."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

CHUNK_BYTES = 1 << 16
BUSY = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class Proxy:
    """Forwards connections from a free loopback port. `num_bytes` counts what the server sent through it."""

    def __init__(self, target_url: str) -> None:
        host, port = target_url.removeprefix("http://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._events: list[tuple[int, Callable[[], None]]] = []
        self._connections: set[socket.socket] = set()
        self.num_bytes = 0
        self.num_busy = 0  # so many of the next connections are told to come back later
        self.bytes_per_second = 0.0  # 0: as fast as it goes
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def at(self, num_bytes: int, event: Callable[[], None]) -> None:
        """Call `event` once, when so many bytes have come, and before they go on."""
        self._events.append((num_bytes, event))

    def go_away(self) -> None:
        """Cut all connections and refuse new ones, for ever."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Reset all connections."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            is_busy, self.num_busy = self.num_busy > 0, max(self.num_busy - 1, 0)
            threading.Thread(target=_answer_busy if is_busy else self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self._target, timeout=10) as server:
            server.settimeout(None)
            with self._remembered(client, server):
                back = threading.Thread(target=self._send_back, args=(server, client), daemon=True)
                back.start()
                while data := client.recv(CHUNK_BYTES):
                    server.sendall(data)
                server.shutdown(socket.SHUT_WR)
                back.join()

    @contextmanager
    def _remembered(self, *connections: socket.socket) -> Iterator[None]:
        self._connections.update(connections)
        try:
            yield
        finally:
            self._connections.difference_update(connections)

    def _send_back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK_BYTES):
                client.sendall(self._pass(data))
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    def _pass(self, data: bytes) -> bytes:
        with self._lock:
            self.num_bytes += len(data)
            due = [event for number, event in self._events if number <= self.num_bytes]
            self._events = [each for each in self._events if each[0] > self.num_bytes]
        for event in due:
            event()
        if self.bytes_per_second:
            time.sleep(len(data) / self.bytes_per_second)
        return data


def _answer_busy(client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):
        client.recv(CHUNK_BYTES)
        client.sendall(b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(BUSY) + BUSY)
