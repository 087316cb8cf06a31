"""Where the pages and the interface for pictures are, who may ask for them, and how many are made at a time."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ndpnet.station.pages import HERE, Pages
from ndpnet.station.security import DECIDE, INSPECT, READ, REVIEW
from ndpnet.station.web import MAX_MASK_BYTES, Inspection, Shield, in_one_line, needs, read_json

if TYPE_CHECKING:
    from ndpnet.station.station import Station

# answers of one path at a time: a store that does not answer keeps no page waiting, nor pictures that come in
MAX_ANSWERS = 4


def make_app(station: "Station") -> Starlette:
    """The application of a station."""
    api = Inspection(station)
    routes = [
        Route("/inspect", needs(api.inspect, INSPECT), methods=["POST"]),
        Route("/healthz", api.healthz),
        Route("/readyz", api.readyz),
        Route("/metrics", needs(api.metrics, READ)),
        *_page_routes(Pages(station)),
    ]
    app = Starlette(routes=routes, exception_handlers=dict.fromkeys((HTTPException, ValueError), in_one_line))
    app.add_middleware(Shield, station=station)
    return app


def _page_routes(pages: Pages) -> list[Route | Mount]:
    reads = {
        "/": pages.live,
        "/live": pages.live_facts,
        "/history": pages.history,
        "/pictures/{id:int}": pages.picture,
        "/pictures/{id:int}/image": pages.image,
        "/pictures/{id:int}/map": pages.heat_map,
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
        *(Route(path, needs(_handler(answer), READ)) for path, answer in reads.items()),
        Route("/api/pictures/{id:int}", needs(_handler(pages.facts), READ, INSPECT)),  # where 202 sends a camera
        *(
            Route(path, needs(_handler(answer, has_body=True), right), methods=["POST"])
            for path, (right, answer) in writes.items()
        ),
        Route("/login", _handler(pages.login)),
        Route("/login", pages.enter, methods=["POST"]),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]


def _handler(answer: Callable[..., Response], *, has_body: bool = False) -> Any:
    limiter = CapacityLimiter(MAX_ANSWERS)

    async def handler(request: Request) -> Response:
        body = [await read_json(request, MAX_MASK_BYTES)] if has_body else []
        return await run_sync(answer, request, *body, limiter=limiter)

    return handler
