"""A running station: its threads, what they share, and how it starts and ends."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import uvicorn

from ndpnet.locks import locked
from ndpnet.station.camera import Camera
from ndpnet.station.config import MODELS, PICTURES, LineConfig, StationConfig
from ndpnet.station.journal import open_journal
from ndpnet.station.judge import Judge, Line
from ndpnet.station.measures import Measures
from ndpnet.station.models import OpenModel, open_model, remove_others, wished_hash
from ndpnet.station.mqtt import MessageSource
from ndpnet.station.retrain import Retraining
from ndpnet.station.routes import make_app
from ndpnet.station.security import read_tokens
from ndpnet.station.sinks import Feeder, open_sinks
from ndpnet.station.store import FILES, Intake, Store, retain
from ndpnet.station.tables import MODEL
from ndpnet.station.watch import FolderWatch

logger = logging.getLogger(__name__)
# threads without which pictures are taken and judged
SINK, REGISTRY, RETRAIN, RETENTION = "sink ", "registry", "retrain", "retention"
BUCKET = "S3 store"
LOOK_SECONDS, SOURCE_SECONDS, RETAIN_SECONDS, RETRY_SECONDS = 0.2, 0.02, 60.0, 2.0

ANYWHERE = ("0.0.0.0", "::")  # listens at all addresses, and is none
SCAN_REST = 9.0  # times as long as it took to list a folder: at most a tenth of a core


class Station:
    """Everything of a station but its server."""

    def __init__(self, config: StationConfig) -> None:
        self.config = config
        self.journal = open_journal(config)
        self.store = Store(config.folder, config.store.url)
        self.lines = {line.name: Line(line, config, self.journal, self.store) for line in config.lines}
        self.measures = Measures(self)
        self.judge = Judge(self.lines, self.journal, self.measures.count)
        self.intake = Intake(self.journal, self.store, config, self.judge.wake)
        self.sources: dict[str, Camera | MessageSource] = {}
        for line in config.lines:
            if line.camera is not None:
                self.sources[f"camera {line.name}"] = Camera(line, self.intake)
            if line.mqtt is not None:
                self.sources[f"mqtt {line.name}"] = MessageSource(line, self.intake)
        self.problems: dict[str, str] = {}  # by thread: what keeps it from its work now
        self.sinks = open_sinks(config.sinks, self.journal, list(self.lines), self.is_working)
        if config.store.url is not None:
            self.sinks[BUCKET] = Feeder(BUCKET, self.store, self.journal, FILES)
        self.retraining = None if config.retrain == "none" else Retraining(self)
        self._stop = threading.Event()
        self.threads: dict[str, threading.Thread] = {}

    def start(self) -> None:
        """Open the models and start all threads. ValueError: a model, folder or journal is not there."""
        self.journal.check_same(self.config.folder / PICTURES)  # else they would all be removed
        self._open_lines()
        self.store.remove_unknown(self.journal)
        self.journal.refuse_other_lines(list(self.lines))
        self.journal.count_crash(list(self.lines))
        self._run("judge", self.judge.step)
        for line in self.config.lines:
            if line.source is not None:
                watch = FolderWatch(line, self.intake)
                self._run(f"folder {line.name}", partial(self._look, watch), LOOK_SECONDS)
        for name, source in self.sources.items():
            self._run(name, source.step, SOURCE_SECONDS)
        self._run(RETENTION, self._retain, RETAIN_SECONDS)
        if any(line.registered for line in self.config.lines):
            self._run(REGISTRY, self._look_for_champions, self.config.model_seconds)
        if self.retraining is not None:
            self._run(RETRAIN, self.retraining.step, RETRY_SECONDS)
        for name, sink in self.sinks.items():
            self._run(f"{SINK}{name}", sink.step, LOOK_SECONDS)

    def _open_lines(self) -> None:
        if self.config.server.token_file is not None:
            read_tokens(self.journal, self.config.server.token_file)
        for line in self.lines.values():
            event = self.journal.last_event(line.name, MODEL)
            line.next_model = _open_line(line.config, self.config, event and event["facts"])
            line.prepare()

    def stop(self) -> None:
        """End all threads; a picture whose turn it is gets its verdict."""
        self._stop.set()
        self.judge.wake()
        for part in (*self.sources.values(), *filter(None, [self.retraining])):
            part.close()
        for thread in self.threads.values():
            thread.join(30.0)
        for sink in self.sinks.values():
            sink.close()

    def dead_threads(self) -> list[str]:
        """Names of threads that should be alive."""
        return [name for name, thread in self.threads.items() if not thread.is_alive()]

    def hindrances(self) -> list[str]:
        """What keeps pictures from being taken or judged now."""
        others = SINK, REGISTRY, RETRAIN, RETENTION
        return [text for name, text in dict(self.problems).items() if not name.startswith(others)]

    def is_working(self) -> bool:
        """Whether all threads live and nothing keeps pictures from being taken or judged."""
        return not self.dead_threads() and not self.hindrances()

    def _run(self, name: str, step: Callable[[], Any], pause: float = 0.0) -> None:
        """Call a step for ever; what goes wrong in it is said once, and tried again."""

        def loop() -> None:
            while not self._stop.is_set():
                try:
                    step()
                    if self.problems.pop(name, None):
                        logger.info("%s: works again", name)
                    if pause:
                        self._stop.wait(pause)
                except Exception as error:  # a thread that ends would be worse than any
                    if self._stop.is_set():
                        return
                    self._note_problem(name, error)
                    self._stop.wait(max(pause, RETRY_SECONDS))

        self.threads[name] = threading.Thread(target=loop, name=name, daemon=True)
        self.threads[name].start()

    def _look(self, watch: FolderWatch) -> None:
        watch.look()
        self._stop.wait(SCAN_REST * watch.scan_seconds)

    def _note_problem(self, name: str, error: Exception) -> None:
        text = " ".join(str(error).split()) or type(error).__name__
        if self.problems.get(name) != text:
            is_expected = isinstance(error, OSError | ValueError)
            logger.error("%s: %s", name, text, exc_info=None if is_expected else error)
        self.problems[name] = text

    def _retain(self) -> None:
        while not self._stop.is_set() and (
            removed := retain(self.journal, self.store, self.config.store, self.config.review)
        ):
            logger.info("removed %d old pictures", removed)
        self.problems.pop("disk", None)

    def _look_for_champions(self) -> None:
        problems = []
        for line in self.lines.values():
            try:
                wished = wished_hash(line.config)
                if wished is not None and line.next_model is None and wished != line.model.hash:
                    line.next_model = open_model(line.config, self.config.folder / MODELS)
                    self.judge.wake()
            except (ValueError, OSError) as error:  # of this line alone
                problems.append(f"{line.name}: {error}")
        if not any(line.next_model for line in self.lines.values()):  # else one is there that no event names yet
            self._remove_old_models()
        if problems:
            raise ValueError("; ".join(problems))

    def _remove_old_models(self) -> None:
        """Those of the registry that no line uses now or has used before it."""
        events = filter(None, (self.journal.last_event(name, MODEL) for name in self.lines))
        kept = {event["facts"][name] for event in events for name in ("hash", "before")}
        remove_others(self.config.folder / MODELS, kept - {None})


def check_lines(config: StationConfig) -> None:
    """Open every line's model and look for its folder, as a start does. ValueError: one is not there, or not right."""
    for line in config.lines:
        _open_line(line, config)


def _open_line(line: LineConfig, config: StationConfig, last: dict[str, Any] | None = None) -> OpenModel:
    if line.source is not None and not line.source.is_dir():
        raise ValueError(f"no folder {line.source} for line {line.name} (make it, or correct its source)")
    return open_model(line, config.folder / MODELS, last)


@contextmanager
def running(config: StationConfig) -> Iterator[Station]:
    """A station that works while the block runs. ValueError: another one has its folder, or its name."""
    with locked(config.folder, f"another station works in {config.folder} (choose another folder)", is_folder=True):
        station = Station(config)
        with station.journal.alone():
            try:
                station.start()
                yield station
            finally:
                station.stop()


def serve(config: StationConfig, ready: Callable[[Station, str], None]) -> None:
    """Run a station and its server until a signal ends it; `ready` is told where the page is."""
    with running(config) as station:
        server = config.server
        if not server.is_loopback and not station.journal.has_tokens():
            raise ValueError(
                f"server.host {server.host} is seen by others and nobody has a token "
                "(`ndpnet station --add-token NAME:ROLE`, or host 127.0.0.1)"
            )
        options: dict[str, Any] = {"log_level": "warning", "log_config": None}  # in the station's own form
        if server.certificate is not None:
            options |= {"ssl_certfile": str(server.certificate), "ssl_keyfile": str(server.key)}
        settings = uvicorn.Config(make_app(station), access_log=False, server_header=False, **options)
        try:
            settings.load()
        except OSError as error:
            files = f"{server.certificate} and {server.key}"
            reason = error.strerror or str(error)
            raise ValueError(f"no TLS with {files}: {reason} (server.certificate, server.key)") from error
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
        host = f"[{server.host}]" if family is socket.AF_INET6 else server.host
        reached = socket.gethostname() if server.host in ANYWHERE else host  # by others
        try:
            listening = socket.create_server((server.host, server.port), family=family)
        except OSError as error:
            reason = (error.strerror or str(error)).partition(" (")[0]
            text = f"cannot listen on {host}:{server.port}: {reason} (choose another server.host or server.port)"
            raise ValueError(text) from error
        scheme = "http" if server.certificate is None else "https"
        ready(station, f"{scheme}://{reached}:{listening.getsockname()[1]}/")
        uvicorn.Server(settings).run(sockets=[listening])
