"""The page for people: Live, History, Review, What if, Health. Plain HTML, one script, nothing from elsewhere."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ndpnet.data.images import read_header, read_image
from ndpnet.files import readable_bytes
from ndpnet.inference.overlay import encode_jpeg
from ndpnet.metrics.drift import false_alarms_per_year
from ndpnet.station import queries
from ndpnet.station.judge import Line
from ndpnet.station.security import COOKIE
from ndpnet.station.tables import ACKNOWLEDGED, RETRAIN, THRESHOLD
from ndpnet.station.values import evidence, finite, number, of_property, painted, percent, told, when
from ndpnet.station.web import public, read_json, reason_of, text_of, who_of

if TYPE_CHECKING:
    from ndpnet.station.station import Station

HERE = Path(__file__).parent
MAX_SIDE, JPEG_QUALITY = 2048, 88
FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}  # the page asks by the time of arrival, too
NUM_EVENTS = 50


class Pages:
    """What is shown, and what a person may change."""

    def __init__(self, station: "Station") -> None:
        self._station, self._journal = station, station.journal

    @cached_property
    def _templates(self) -> Environment:
        loader = FileSystemLoader(HERE / "templates")
        made = Environment(loader=loader, autoescape=select_autoescape(["j2", "html"]), undefined=StrictUndefined)
        made.filters |= {"when": when, "percent": percent, "number": number, "bytes": readable_bytes}
        made.globals |= {"evidence": evidence, "of_property": of_property, "told": told}
        return made

    def _page(self, request: Request, name: str, **values: Any) -> Response:
        person = getattr(request.state, "person", None)
        about = {"person": person, "page": name, "station": self._station, "problems": dict(self._station.problems)}
        about["num_to_review"] = queries.num_to_review(self._journal, self._station.config.review) if person else 0
        text = self._templates.get_template(f"{name}.html.j2").render(**about, **values)
        return Response(text, media_type="text/html", headers={"Cache-Control": "no-store"})

    # ---- Live

    def live(self, request: Request) -> Response:
        """The last picture and the shift."""
        return self._page(request, "live", **self._live_values(request))

    def live_facts(self, request: Request) -> Response:
        """The part of Live that changes."""
        return self._page(request, "live_facts", **self._live_values(request))

    def _live_values(self, request: Request) -> dict[str, Any]:
        name = request.query_params.get("line")
        line = self._line(name).name if name else None
        asked = queries.last_judged, queries.counts, queries.history_bars
        last, counts, bars = (ask(self._journal, line) for ask in asked)
        return {"last": last, "counts": counts, "bars": bars, "chosen": line}

    # ---- History

    def history(self, request: Request) -> Response:
        """Judged pictures, by filters."""
        asked = {name: value for name, value in request.query_params.items() if value and name in queries.FILTERS}
        found = queries.search(self._journal, asked)
        is_more = len(found) > queries.PAGE_SIZE
        older = urlencode(asked | {"below_seq": found[queries.PAGE_SIZE - 1]["seq"]}) if is_more else ""
        values = {name: asked.get(name, "") for name in queries.FILTERS}
        return self._page(request, "history", pictures=found[: queries.PAGE_SIZE], asked=values, older=older)

    def picture(self, request: Request) -> Response:
        """One picture with everything that is known of it."""
        row = self._row(request)
        facts = queries.facts_of(self._journal, row)
        near = queries.neighbours(self._journal, row["seq"] or self._journal.last_seq() + 1)
        opinions = self._journal.opinions(row["id"])
        return self._page(request, "picture", picture=row, model=facts, opinions=opinions, near=near)

    def facts(self, request: Request) -> Response:
        """A picture's row as JSON."""
        row = self._row(request)
        return JSONResponse(public(row) | {"opinions": self._journal.opinions(row["id"])})

    def image(self, request: Request) -> Response:
        """The picture as a JPEG, reduced to `side`."""
        side = min(round(finite(request.query_params.get("side") or MAX_SIDE)), MAX_SIDE)
        if side < 1:
            raise ValueError(f"a picture of {side} pixels cannot be shown (ask for a side of 1 to {MAX_SIDE})")
        row, limit = self._row(request), self._station.config.server.max_megapixels
        content = self._stored(row["file"])
        if read_header(content, name=row["name"]).num_pixels > limit * 1e6:  # a small file may have very many
            raise HTTPException(410, f"more than {limit:g} megapixels are not shown (server.max_megapixels)")
        pixels = Image.fromarray(read_image(content, name=row["name"]))
        pixels.thumbnail((side, side))
        return Response(encode_jpeg(pixels, quality=JPEG_QUALITY), media_type="image/jpeg", headers=FOR_EVER)

    def heat_map(self, request: Request) -> Response:
        """The heat map: grey, from 128 where the regions are."""
        return Response(self._stored(self._row(request)["map"]), media_type="image/png", headers=FOR_EVER)

    def mask(self, request: Request) -> Response:
        """The area that a person painted last."""
        mask = self._journal.mask(request.path_params["id"])
        if mask is None:
            raise HTTPException(404, "nothing is painted on this picture")
        return Response(mask, media_type="image/png", headers={"Cache-Control": "no-store"})

    def _stored(self, name: str | None) -> bytes:
        try:
            if name is not None:
                return self._station.store.read(name)
        except FileNotFoundError:
            pass
        except ValueError as error:
            raise HTTPException(503, str(error)) from error
        raise HTTPException(410, "this is not stored here (store.keep_days, store.keep_gigabytes)")

    # ---- Review

    def review(self, request: Request) -> Response:
        """Pictures that people have to look at."""
        return self._page(request, "review")

    def next_picture(self, request: Request) -> Response:
        """The picture that a person should look at next."""
        who = request.state.person.name or request.query_params.get("who", "")
        verdicts = self._station.config.review
        row = queries.next_to_review(self._journal, verdicts, who)
        num_left = queries.num_to_review(self._journal, verdicts)
        opinions = self._journal.opinions(row["id"]) if row else []
        return JSONResponse({"num": num_left, "picture": row and public(row) | {"opinions": opinions}})

    def label(self, request: Request, body: dict[str, Any]) -> Response:
        """Note what a person says of a picture, and the area that was painted."""
        row, mask = self._row(request), body.get("mask")
        if mask is not None:
            mask = painted(str(mask), (row["height"] or 0, row["width"] or 0), MAX_SIDE**2)
        self._journal.review(row["id"], str(body.get("label")), who_of(request, body), mask)
        return self.facts(request)

    # ---- What if

    def what_if(self, request: Request) -> Response:
        """Another threshold, and what would have followed of it."""
        line = self._line(request.query_params.get("line") or next(iter(self._station.lines)))
        rows = queries.scores(self._journal, line.name, line.model.hash, line.model.engine)
        known = [row["score"] for row in rows] + line.model.calibration.scores + [line.threshold]
        low, high = min(known), max(known)
        margin = (high - low) * 0.05 or 0.05
        edges = np.linspace(low - margin, high + margin, 41)
        by_kind = {
            kind: np.histogram([row["score"] for row in rows if row["label"] == kind], edges)[0].tolist()
            for kind in (None, "good", "defective")
        }
        by_kind["calibration"] = np.histogram(line.model.calibration.scores, edges)[0].tolist()
        events = queries.last_events(self._journal, NUM_EVENTS, line=line.name, kind=THRESHOLD)
        values = {"line": line, "edges": edges.tolist(), "bars": by_kind, "events": events, "num_rows": len(rows)}
        values["loads"] = queries.review_loads(rows, line.model.calibration, line.model.own_record)
        return self._page(request, "whatif", **values, now=self._follows(line, rows, line.threshold))

    def consequences(self, request: Request) -> Response:
        """What would have followed of a threshold, as JSON."""
        line = self._line(request.path_params["line"])
        threshold = finite(request.query_params.get("threshold"))
        rows = queries.scores(self._journal, line.name, line.model.hash, line.model.engine)
        return JSONResponse(self._follows(line, rows, threshold))

    def _follows(self, line: Line, rows: list[dict[str, Any]], threshold: float) -> dict[str, Any]:
        promised = line.model.calibration.promised_rate(threshold)
        follows = queries.what_if(rows, threshold, line.model.facts["review_from"], self._station.config.review)
        return follows | {"threshold": threshold, "promised_rate": promised}

    def set_threshold(self, request: Request, body: dict[str, Any]) -> Response:
        """Use another threshold from the next picture on; None: the model's own again."""
        line, who = self._line(request.path_params["line"]), who_of(request, body)
        reason, model = reason_of(body), line.model
        if body.get("model", model.hash) != model.hash:  # the scores that were looked at are another one's
            raise ValueError(f"another model judges line {line.name} by now (load the page again)")
        value = None if body.get("value") is None else finite(body["value"])
        facts = {"value": value, "before": line.threshold, "reason": reason}
        facts |= {"model": model.hash, "engine": model.engine}
        self._journal.note(THRESHOLD, facts, line=line.name, who=who)
        self._station.judge.wake()
        return JSONResponse(facts)

    # ---- Health

    def health(self, request: Request) -> Response:
        """Has a line changed, and does everything work."""
        per_day = {name: queries.daily_pictures(self._journal, name) for name in self._station.lines}
        limit = self._station.config.drift.pictures_per_false_alarm
        return self._page(
            request,
            "health",
            lines=sorted(self._station.lines.values(), key=lambda line: line.alarm is None),  # what has rung first
            limit=limit,
            per_day=per_day,
            per_year={name: false_alarms_per_year(limit, number) for name, number in per_day.items()},
            stored=queries.num_bytes_stored(self._journal),
            events=queries.last_events(self._journal, NUM_EVENTS),
        )

    def acknowledge(self, request: Request, body: dict[str, Any]) -> Response:
        """Answer an alarm: the watch starts anew."""
        line, who = self._line(request.path_params["line"]), who_of(request, body)
        if line.alarm is None:
            raise ValueError(f"line {line.name} has no alarm")
        self._journal.note(ACKNOWLEDGED, {"reason": text_of(body, "reason")[:500]}, line=line.name, who=who)
        self._station.judge.wake()
        return JSONResponse({"line": line.name})

    def retrain(self, request: Request, body: dict[str, Any]) -> Response:
        """Ask for a training with the line's reviewed pictures."""
        line, who, retraining = self._line(request.path_params["line"]), who_of(request, body), self._station.retraining
        if retraining is None:
            raise ValueError("this station trains nothing (retrain: dvc or kfp in its file)")
        if retraining.is_asked(line.name):
            raise ValueError(f"a training of {line.name} goes on (wait for its end)")
        self._journal.note(RETRAIN, {"reason": reason_of(body)}, line=line.name, who=who)
        return JSONResponse({"line": line.name})

    # ---- tokens

    def login(self, request: Request) -> Response:
        """Ask for a token."""
        return self._page(request, "login")

    async def enter(self, request: Request) -> Response:
        """Put a token into a cookie that no script reads."""
        secret = str((await read_json(request)).get("token") or "")
        owner = await run_in_threadpool(self._journal.owner_of, secret)
        answer = JSONResponse({"name": owner["name"]} if owner else {"error": "no such token"}, 200 if owner else 401)
        is_tls = self._station.config.server.certificate is not None
        if owner:
            answer.set_cookie(COOKIE, secret, httponly=True, samesite="strict", secure=is_tls, max_age=30 * 86400)
        else:
            answer.delete_cookie(COOKIE)
        return answer

    def _row(self, request: Request) -> dict[str, Any]:
        row = self._journal.picture(request.path_params["id"])
        if row is None:
            raise HTTPException(404, "no such picture")
        return row

    def _line(self, name: str) -> Line:
        if name not in self._station.lines:
            raise HTTPException(404, f"no line {name!r}")
        return self._station.lines[name]
