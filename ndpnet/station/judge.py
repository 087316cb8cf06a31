"""The judge: one thread that takes the picture that has waited longest, and writes its verdict."""

import errno
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ndpnet.data.images import read_header
from ndpnet.inference.overlay import block_maxima, encode_png, heat_level
from ndpnet.inference.verdict import Verdict
from ndpnet.metrics.drift import SCORE, LineWatch
from ndpnet.metrics.properties import picture_properties
from ndpnet.station import queries
from ndpnet.station.config import LineConfig, StationConfig
from ndpnet.station.journal import Journal, Judgement
from ndpnet.station.models import OpenModel
from ndpnet.station.store import Store
from ndpnet.station.tables import ACKNOWLEDGED, DRIFT, MODEL, RESTARTED, THRESHOLD

logger = logging.getLogger(__name__)
PERIOD = 20_000  # pictures, after which the watch starts anew: its memory has an end
MAX_MAP_SIDE = 1024
WAIT_SECONDS = 0.5


class Line:
    """A line with the model that judges it now, its threshold and the watch over it."""

    model: OpenModel  # there is one from the first `prepare` on
    watch: LineWatch  # what sees its verdicts since it last began anew

    def __init__(self, config: LineConfig, station: StationConfig, journal: Journal, store: Store) -> None:
        self.config, self.station, self.journal, self.store = config, station, journal, store
        self.name = config.name
        self.next_model: OpenModel | None = None  # set by another thread; taken between two pictures
        self._last_event, self._has_rung = -1, False

    @property
    def threshold(self) -> float:
        """What scores are compared with now."""
        threshold = self.model.inspector.threshold
        assert threshold is not None  # a model without one is not opened
        return threshold

    def prepare(self) -> None:
        """Take the next model if there is one, the threshold in force, and start the watch anew after either."""
        if (opened := self.next_model) is not None:
            self._change_model(opened)
            self.next_model = None  # after it: if the journal goes away before, it comes again
        event = self.journal.last_event(self.name, MODEL, THRESHOLD, ACKNOWLEDGED, RESTARTED)
        assert event is not None  # that of the model at least
        if event["id"] != self._last_event:
            self._set_threshold()
            self._start_watch(event["seq"])
            self._last_event = event["id"]  # after it: if the journal goes away before, all of it comes again

    def _change_model(self, opened: OpenModel) -> None:
        event = self.journal.last_event(self.name, MODEL)
        last = {} if event is None else event["facts"]
        # not of a folder that was moved: a model that is noted answers the line's alarm
        if any(last.get(name) != opened.facts[name] for name in ("hash", "engine", "version")):
            before = last.get("before" if last.get("hash") == opened.hash else "hash")  # to go back to: another model
            self.journal.note(MODEL, opened.facts | {"before": before}, line=self.name)
        self.model, self._last_event = opened, -1
        logger.info("%s: judging with %s (%s)", self.name, opened.facts["model"], opened.hash[:12])

    def _set_threshold(self) -> None:
        """The one that a person has set last for this model and engine, else its own; the bound for review stays."""
        event = self.journal.last_event(self.name, THRESHOLD, model=self.model.hash, engine=self.model.engine)
        value = None if event is None else event["facts"]["value"]
        self.model.inspector.threshold = self.model.own_record["value"] if value is None else value

    def _start_watch(self, seq: int) -> None:
        self._has_rung = False
        self.watch = self.model.calibration.watch(self.threshold, self.station.drift)
        for row in queries.scores_after(self.journal, self.name, seq):
            self.watch.add(row["id"], row[SCORE], row["properties"])

    @property
    def alarm(self) -> dict[str, Any] | None:
        """The alarm that nobody has answered yet."""
        event = self.journal.last_event(self.name, DRIFT, MODEL, THRESHOLD, ACKNOWLEDGED)
        return event if event is not None and event["kind"] == DRIFT else None

    def judge(self, row: dict[str, Any]) -> Judgement:
        """Verdict of a picture that waits; what cannot be read or has no number for a score is an error."""
        start = time.perf_counter()
        try:
            judged = self._judge(row)
        except (ValueError, MemoryError, RuntimeError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # says nothing of the picture: it is judged once there is room
            text = " ".join(str(error).split()) or type(error).__name__
            judged = Judgement("error", error=text)
        seconds = time.perf_counter() - start
        return replace(judged, model=self.model.hash, engine=self.model.engine, seconds=seconds)

    def _judge(self, row: dict[str, Any]) -> Judgement:
        inspector, name, limits = self.model.inspector, row["name"], self.station.server
        content = self.store.read(row["file"])
        if not content:
            raise ValueError(f"{name} is empty, or has more than {limits.max_megabytes:g} MB (server.max_megabytes)")
        if read_header(content, name=name).num_pixels > limits.max_megapixels * 1e6:
            raise ValueError(f"{name} has more than {limits.max_megapixels:g} megapixels (server.max_megapixels)")
        picture = inspector.open(content, name=name)
        fitted, size = inspector.fit(picture, name=name), picture.shape[:2]
        inspector.opened_package.use_its_threads()  # the last picture may have been another model's
        prediction = inspector.predict(fitted, name=name)
        verdict = inspector.judge(prediction, size=size)
        word = verdict.word
        is_drawn = self.station.store.maps == "all" or (self.station.store.maps == "not_good" and word != "good")
        heat_map = draw_map(verdict, self.threshold) if is_drawn else b""
        return Judgement(
            word,
            score=verdict.score,
            threshold=verdict.threshold,
            threshold_source=inspector.threshold_source,
            width=size[1],
            height=size[0],
            regions=[asdict(region) for region in verdict.regions],
            properties=picture_properties(fitted),
            map=self.store.add_map(heat_map, row["file"]) if is_drawn else None,
            map_bytes=len(heat_map),
        )

    def observe(self, row: dict[str, Any], judgement: Judgement) -> None:
        """Let the watch see a verdict that is in the journal, and ring once."""
        if judgement.score is None:
            return  # an error
        self.watch.add(row["id"], judgement.score, judgement.properties)
        if self.watch.rings and not self._has_rung:
            self._has_rung = True  # a person may answer while the next picture is judged: the watch is the old one then
            if self.alarm is not None:
                return  # it rang before this start
            changes = [asdict(change) for change in self.watch.changes()]
            self.journal.note(DRIFT, {"statistic": self.watch.statistic, "changes": changes}, line=self.name)
            logger.warning("%s: the line has changed (look at the page, Health)", self.name)
        elif self.watch.num_pictures >= PERIOD:
            self.journal.note(RESTARTED, {"num_pictures": self.watch.num_pictures}, line=self.name)


class Judge:
    """Gives every waiting picture its verdict, one after the other, and tells those who wait for it."""

    def __init__(self, lines: dict[str, Line], journal: Journal, count: Callable[[str, Judgement], None]) -> None:
        self.lines, self.journal, self._count = lines, journal, count
        self._next: list[dict[str, Any]] = []
        self._last_event: int | None = -1  # of the journal
        self._prepared_for: int | None = -1
        self._woken = threading.Event()
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[None]] = {}
        self.mean_seconds = 0.1

    def wake(self) -> None:
        """There is a picture."""
        self._woken.set()

    def verdict_of(self, picture_id: int) -> Future[None]:
        """Is done once the picture has its verdict."""
        with self._lock:
            future = self._waiting.setdefault(picture_id, Future())
        if self.journal.is_judged(picture_id):
            self._tell(picture_id)
        return future

    def step(self) -> bool:
        """Judge one picture. -> False: none came."""
        if not self._next:
            self._next = self.journal.next_pictures(list(self.lines))
            self._last_event = self.journal.last_event_id()  # after it: what has been set before they came holds
        self._prepare()
        if not self._next:
            self._woken.wait(WAIT_SECONDS)
            self._woken.clear()
            return False
        row = self._next[0]
        line = self.lines[row["line"]]
        judgement = line.judge(row)
        written = self.journal.finish(row["id"], judgement)
        if written is not None:
            self._last_event = written[1]
            line.observe(row, judgement)
            self._count(line.name, judgement)
        del self._next[0]
        self.mean_seconds += 0.1 * (judgement.seconds - self.mean_seconds)
        self._tell(row["id"])
        return True

    def _prepare(self) -> None:
        if self._last_event != self._prepared_for or any(line.next_model for line in self.lines.values()):
            for line in self.lines.values():
                line.prepare()
            self._prepared_for = self._last_event

    def _tell(self, picture_id: int) -> None:
        with self._lock:
            future = self._waiting.pop(picture_id, None)
        if future is not None:
            future.set_result(None)


def draw_map(verdict: Verdict, threshold: float) -> bytes:
    """Heat map as a grey PNG: 0 nothing, 128 and more where the regions are. Maxima of blocks of a large one."""
    level = heat_level(verdict.network_map, threshold=threshold) * 255
    grey = np.where(verdict.network_mask, np.clip(np.ceil(level), 128, 255), np.clip(np.floor(level), 0, 127))
    return encode_png(block_maxima(grey.astype(np.uint8), MAX_MAP_SIDE))
