"""Stations for the tests: a configuration with a small model, and a running one with its server."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import requests
import uvicorn
import yaml
from click.testing import CliRunner, Result
from pictures import encoded
from PIL import Image
from processes import start_cli, wait_until
from samples import SIZE

from ndpnet.cli import main
from ndpnet.station.config import StationConfig, parse_station
from ndpnet.station.journal import Journal, open_journal
from ndpnet.station.routes import make_app
from ndpnet.station.station import Station, running
from ndpnet.station.store import Intake, Store

SECONDS = 60.0


def config_of(folder: Path, model_dir: Path, /, **changes: Any) -> StationConfig:
    """A station with one line, `wall`, that watches folder/in; changes: sections of its file."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    line = {"name": "wall", "model": str(model_dir), "source": "in", "settle_seconds": 0} | changes.pop("wall", {})
    values = {"folder": "station", "lines": [line], "server": {"port": 0}} | changes
    return parse_station(values, base=folder)


def intake_of(config: StationConfig) -> Intake:
    """How pictures enter a station that judges none; with its journal and store."""
    return Intake(open_journal(config), Store(config.folder), config, lambda: None)


def command(folder: Path, *options: object, **values: Any) -> Result:
    """Run `ndpnet station` on a file with these values."""
    (folder / "station.yaml").write_text(yaml.safe_dump(values))
    return CliRunner().invoke(main, ["station", "--config", str(folder / "station.yaml"), *map(str, options)])


def start_station(folder: Path, model_dir: Path, name: str = "station", /, **values: Any) -> BaseProcess:
    """Start a station in a process of its own: its line `wall` moves folder/in to folder/done, its sink is a file."""
    line = {"name": "wall", "model": str(model_dir), "source": "in", "done_dir": "done", "settle_seconds": 0}
    sink = {"name": "files", "kind": "jsonl", "path": f"{name}.jsonl"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"folder": name, "lines": [line], "sinks": [sink]} | values))
    return start_cli(["station", "--config", path], folder / f"{name}.log")


def delivered(path: Path) -> list[int]:
    """Places, as they came, of the verdicts in a sink's file of JSON lines."""
    return [json.loads(line)["seq"] for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def served(config: StationConfig) -> Iterator[tuple[Station, str]]:
    """A running station and the address of its page."""
    with running(config) as station:
        server = uvicorn.Server(uvicorn.Config(make_app(station), host="127.0.0.1", port=0, log_level="warning"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        try:
            yield station, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(SECONDS)


def accept(journal: Journal, key: str, line: str = "wall", **about: Any) -> tuple[int, bool]:
    """Enter a picture without a file; about: its other columns. -> its id, and whether it is new"""
    plain = {"name": f"{key}.png", "file": f"pictures/{key}.png", "sha256": "0" * 64, "num_bytes": 1000}
    return journal.accept(line, [{"key": key} | plain | about])[0]


def picture(seed: int = 0, *, size: int = 64, level: int = 120, kind: str = "PNG") -> bytes:
    """The bytes of a noisy grey picture."""
    grey = np.random.default_rng(seed).integers(level - 20, level + 20, size=(size, size)).astype(np.uint8)
    return encoded(Image.fromarray(grey), kind)


def wall(rng: np.random.Generator, *, light: float = 1.0) -> bytes:
    """The bytes of a good picture of the wall that the small model knows."""
    from skimage.data import brick

    top, left = rng.integers(0, 512 - SIZE, size=2)
    pixels = (brick()[top : top + SIZE, left : left + SIZE] * light).astype(np.uint8)
    return encoded(Image.fromarray(pixels))


def put(path: Path, content: bytes) -> None:
    """Rename a file into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def get(url: str, **options: Any) -> requests.Response:
    """Ask for something."""
    return requests.get(url, timeout=SECONDS, **options)


def send(url: str, **body: Any) -> requests.Response:
    """Send what a person says."""
    return requests.post(url, json=body, timeout=SECONDS)


def post(url: str, content: bytes, **options: Any) -> requests.Response:
    """Send a picture."""
    return requests.post(f"{url}/inspect", data=content, timeout=SECONDS, **options)
