"""Where the pages and the interface for pictures are, who may ask for them, and how many are made at a time."""

from collections.abc import Callable
from functools import partial
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

MAX_ANSWERS = 8  # of a kind that are made at a time: enough threads and connections are left for pictures that come in


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
        "/review": pages.review,
        "/api/review/next": pages.next_picture,
        "/whatif": pages.what_if,
        "/api/lines/{line}/whatif": pages.consequences,
        "/health": pages.health,
    }
    stored = {"image": pages.image, "map": pages.heat_map, "mask": pages.mask}
    writes = {
        "/api/pictures/{id:int}/review": (REVIEW, pages.label),
        "/api/lines/{line}/threshold": (DECIDE, pages.set_threshold),
        "/api/lines/{line}/acknowledge": (DECIDE, pages.acknowledge),
        "/api/lines/{line}/retrain": (DECIDE, pages.retrain),
    }
    # apart: a store that does not answer keeps no page waiting
    made, shown = (partial(_handler, CapacityLimiter(MAX_ANSWERS)) for _ in range(2))
    return [
        *(Route(path, needs(made(answer), READ)) for path, answer in reads.items()),
        *(Route(f"/pictures/{{id:int}}/{name}", needs(shown(answer), READ)) for name, answer in stored.items()),
        Route("/api/pictures/{id:int}", needs(made(pages.facts), READ, INSPECT)),  # where 202 sends a camera
        *(
            Route(path, needs(made(answer, has_body=True), right), methods=["POST"])
            for path, (right, answer) in writes.items()
        ),
        Route("/login", made(pages.login)),
        Route("/login", pages.enter, methods=["POST"]),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]


def _handler(limiter: CapacityLimiter, answer: Callable[..., Response], *, has_body: bool = False) -> Any:
    async def handler(request: Request) -> Response:
        body = [await read_json(request, MAX_MASK_BYTES)] if has_body else []
        return await run_sync(answer, request, *body, limiter=limiter)

    return handler
