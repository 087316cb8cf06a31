"""Where a browser finds the pages, who may ask for them, and how many are made at a time."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ndpnet.station.bodies import MAX_MASK_BYTES, read_json
from ndpnet.station.pages import HERE, Pages
from ndpnet.station.security import DECIDE, INSPECT, READ, REVIEW
from ndpnet.station.web import needs

if TYPE_CHECKING:
    from ndpnet.station.station import Station

MAX_PAGES = 8  # that are made at a time, and as many files shown: enough threads are left for pictures that come in


def page_routes(station: "Station") -> list[Route | Mount]:
    """Everything that a browser asks for."""
    pages = Pages(station)
    # apart: a store that does not answer keeps no page waiting
    run, run_stored = (partial(run_sync, limiter=CapacityLimiter(MAX_PAGES)) for _ in range(2))
    reads = {
        "/": pages.live,
        "/live": pages.live_facts,
        "/history": pages.history,
        "/pictures/{id:int}": pages.picture,
        "/pictures/{id:int}/mask": pages.mask,
        "/review": pages.review,
        "/api/review/next": pages.next_picture,
        "/whatif": pages.what_if,
        "/api/lines/{line}/whatif": pages.consequences,
        "/health": pages.health,
    }
    writes = {
        "/api/pictures/{id:int}/review": (REVIEW, pages.label),
        "/api/lines/{line}/threshold": (DECIDE, pages.set_threshold),
        "/api/lines/{line}/acknowledge": (DECIDE, pages.acknowledge),
        "/api/lines/{line}/retrain": (DECIDE, pages.retrain),
    }
    return [
        *(Route(path, needs(_handler(answer, run), READ)) for path, answer in reads.items()),
        Route("/pictures/{id:int}/image", needs(_handler(pages.image, run_stored), READ)),
        Route("/pictures/{id:int}/map", needs(_handler(pages.heat_map, run_stored), READ)),
        Route("/api/pictures/{id:int}", needs(_handler(pages.facts, run), READ, INSPECT)),  # where 202 sends a camera
        *(
            Route(path, needs(_handler(answer, run, has_body=True), right), methods=["POST"])
            for path, (right, answer) in writes.items()
        ),
        Route("/login", _handler(pages.login, run)),
        Route("/login", pages.enter, methods=["POST"]),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]


def _handler(
    answer: Callable[..., Response], run: Callable[..., Awaitable[Response]], *, has_body: bool = False
) -> Any:
    async def handler(request: Request) -> Response:
        return await run(answer, request, *([await read_json(request, MAX_MASK_BYTES)] if has_body else []))

    return handler
