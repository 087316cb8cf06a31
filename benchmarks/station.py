"""A station at its limits: its throughput beside inference alone, latency, overload, and a long run's memory.

    python benchmarks/station.py --model DIR [--count 200] [--side 256] [--pictures 86400] [--engine torch]
                                [--precision P] [--only long_run]

Pictures are grey noise as PNG; one core, one thread, no maps. Throughput: all pictures of a round lie in the folder.
The share of inference alone is that of processor time, which other programs on the machine move less than the clock's.
Latency: from the rename of a file, one at a time, to its verdict in the journal. Overload: ten times as many clients as
may wait, without a pause. Long run: a day's small pictures in the folder, with the memory in use every minute; at its
end every picture has one verdict, or it fails.
"""

import argparse
import asyncio
import collections
import io
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
import sqlalchemy as sa
import torch
import uvicorn
from measuring import options
from PIL import Image

from ndpnet.data.images import read_image
from ndpnet.inference import Inspector
from ndpnet.station.config import parse_station
from ndpnet.station.queries import last_judged
from ndpnet.station.routes import make_app
from ndpnet.station.station import Station, running
from ndpnet.station.tables import pictures

SMALL_SIDE, FEW_WAITING, REQUESTS, ROUNDS, AHEAD = 64, 8, 40, 10, 200
MEBIBYTE = 2**20


def main() -> None:
    """Measure all four and print them."""
    arguments = options(
        __doc__, model="build/brick/model", engine="torch", precision=None, count=200, side=256, pictures=86400, only=""
    )
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    print(f"{arguments.engine}, {arguments.count} PNG of {arguments.side} px; {os.getloadavg()[0]:.1f} processes run")
    for measure in (throughput, latency, overload, long_run):
        if arguments.only not in ("", measure.__name__):
            continue
        max_waiting = FEW_WAITING if measure is overload else 64
        with tempfile.TemporaryDirectory() as folder, station_in(Path(folder), arguments, max_waiting) as station:
            print(f"{measure.__name__.replace('_', ' ')}: {measure(station, arguments)}", flush=True)


@contextmanager
def station_in(folder: Path, arguments: argparse.Namespace, max_waiting: int) -> Iterator[Station]:
    """A station that watches folder/in, draws nothing and removes old pictures."""
    (folder / "in").mkdir()
    line = {"name": "line", "model": str(Path(arguments.model).absolute()), "source": "in", "settle_seconds": 0}
    line |= {"done_dir": "done", "engine": arguments.engine, "precision": arguments.precision}
    values: dict[str, Any] = {"folder": "station", "lines": [line], "store": {"maps": "none", "keep_gigabytes": 0.05}}
    values |= {"server": {"max_waiting": max_waiting, "requests_per_second": 1e6}, "review": [], "review_sample": 0.0}
    with running(parse_station(values, base=folder)) as station:
        yield station


def throughput(station: Station, arguments: argparse.Namespace) -> str:
    """Pictures per second of a full folder, and the share of inference alone: medians of rounds."""
    inspector: Inspector = station.lines["line"].model.inspector
    alone, used, wall, number = [], [], [], 0
    inspector.inspect(picture(0, arguments.side))
    for _ in range(ROUNDS):
        contents = [picture(number + seed, arguments.side) for seed in range(arguments.count // ROUNDS)]
        fitted = [inspector.fit(read_image(content)) for content in contents]
        before = time.process_time()
        for image in fitted:
            inspector.predict(image)
        alone.append((time.process_time() - before) / len(contents))
        paths = [station.config.lines[0].source / f"{number + seed}.png.partial" for seed in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        before, started = time.process_time(), time.perf_counter()
        for path in paths:
            path.rename(path.with_suffix(""))
        number += len(contents)
        wait_for(station, number)
        used.append((time.process_time() - before) / len(contents))
        wall.append((time.perf_counter() - started) / len(contents))
    shares = sorted(one / other for one, other in zip(alone, used, strict=True))
    per_second = 1 / statistics.median(wall)
    used_ms, alone_ms = (1e3 * statistics.median(each) for each in (used, alone))
    return (
        f"{per_second:.1f} pictures/s by the clock; processor time {used_ms:.1f} ms a picture, "
        f"inference alone {alone_ms:.1f} ms: {statistics.median(shares):.0%} "
        f"({shares[0]:.0%} to {shares[-1]:.0%} in {ROUNDS} rounds)"
    )


def latency(station: Station, arguments: argparse.Namespace) -> str:
    """Seconds from a file's rename to its verdict."""
    seconds = []
    for number in range(min(arguments.count, 100)):
        put(station, number, picture(number, arguments.side))
        renamed = time.time()
        wait_for(station, number + 1)
        seconds.append(last_judged(station.journal)["judged_at"] - renamed)
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return f"p50 {p50:.3f} s, p99 {p99:.3f} s, of {len(seconds)}"


def overload(station: Station, arguments: argparse.Namespace) -> str:
    """Answers to ten times as many clients as may wait, and whether a verdict is wrong."""
    contents = [picture(seed, arguments.side) for seed in range(FEW_WAITING)]
    inspector = Inspector.load(arguments.model, engine=arguments.engine, precision=arguments.precision)
    expected = [inspector.inspect(content).score for content in contents]
    statuses: collections.Counter[str] = collections.Counter()
    with served(station) as url:

        def send(client: int) -> None:
            for number in range(REQUESTS):
                index = (client + number) % FEW_WAITING
                answer = requests.post(f"{url}/inspect", data=contents[index], timeout=600)
                is_right = answer.status_code != 200 or answer.json()["score"] == expected[index]
                has_time = answer.status_code != 429 or int(answer.headers["Retry-After"]) >= 1
                statuses[f"{answer.status_code}{'' if is_right and has_time else ' WRONG'}"] += 1

        clients = [threading.Thread(target=send, args=(client,)) for client in range(10 * FEW_WAITING)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    return f"{sum(statuses.values())} of {len(clients) * REQUESTS} requests answered: {dict(statuses)}"


def long_run(station: Station, arguments: argparse.Namespace) -> str:
    """A day's small pictures, the memory in use meanwhile, and whether each of them has one verdict."""
    contents, memory, number = [picture(seed, SMALL_SIDE) for seed in range(100)], list[float](), 0
    started = looked = time.monotonic()
    while number < arguments.pictures:
        put(station, number, contents[number % len(contents)])
        number += 1
        wait_for(station, number - AHEAD)
        if time.monotonic() - looked > 60 or number == arguments.pictures:
            looked = time.monotonic()
            memory.append(psutil.Process().memory_info().rss / MEBIBYTE)
            print(f"  {(looked - started) / 60:.0f} min: {number} pictures, {memory[-1]:.0f} MiB", flush=True)
    wait_for(station, number)
    minutes = (time.monotonic() - started) / 60
    columns = sa.func.count(), sa.func.count(pictures.c.name.distinct()), sa.func.max(pictures.c.seq)
    assert set(station.journal.rows(sa.select(*columns))[0].values()) == {number}, "lost, or judged twice"
    journal = Path(station.journal.place).stat().st_size / MEBIBYTE
    fifth = max(1, len(memory) // 5)
    first, last = statistics.median(memory[fifth : 2 * fifth] or memory), statistics.median(memory[-fifth:])
    used = f"{first:.0f} MiB in its second fifth, {last:.0f} in its last; journal {journal:.0f} MiB"
    return f"{number} pictures, each judged once, in {minutes:.0f} minutes; {used}"


@contextmanager
def served(station: Station) -> Iterator[str]:
    """The station's address over HTTP."""
    server = uvicorn.Server(uvicorn.Config(make_app(station), port=0, log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def picture(seed: int, side: int) -> bytes:
    """Grey noise as PNG."""
    buffer = io.BytesIO()
    grey = np.random.default_rng(seed).integers(100, 140, (side, side)).astype(np.uint8)
    Image.fromarray(grey).save(buffer, format="PNG")
    return buffer.getvalue()


def put(station: Station, number: int, content: bytes) -> None:
    """Rename a file into the watched folder."""
    partial = station.config.lines[0].source / f"{number}.png.partial"
    partial.write_bytes(content)
    partial.rename(partial.with_suffix(""))


def wait_for(station: Station, number: int) -> None:
    """Wait until so many pictures have their verdict."""
    while station.journal.last_seq() < number:
        time.sleep(0.1)  # asking is no work of the station's


if __name__ == "__main__":
    main()
