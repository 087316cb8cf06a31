"""A suite from request to report."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import yaml

from ndpnet.benchmark import tasks
from ndpnet.benchmark.figures import draw_figure
from ndpnet.benchmark.peers.launch import available
from ndpnet.benchmark.peers.worker.settings import PeerSettings
from ndpnet.benchmark.report import summarise_setup, write_report
from ndpnet.benchmark.schedule import run_plan
from ndpnet.benchmark.suites import SUITES, Suite
from ndpnet.benchmark.tables import Table
from ndpnet.benchmark.tasks import Plan, Wishes, make_plan, method_of, params_of
from ndpnet.benchmark.variants import FULL, choose_variants
from ndpnet.benchmark.worker import CPU
from ndpnet.locks import locked

PEERS_PYTHON = Path(".venv-peers/bin/python")  # what `make peers` makes


@dataclass(frozen=True)
class Request:
    """What the command line says, parsed."""

    suite: str
    data_dir: Path
    out: Path
    categories: tuple[str, ...]
    seeds: tuple[int, ...]
    ablations: tuple[str, ...]
    peers: tuple[Mapping[str, Any], ...]
    devices: tuple[str, ...]
    params_path: Path
    profile: str | None
    overrides: tuple[str, ...]


def parse_seeds(text: str) -> tuple[int, ...]:
    """How many seeds, from 0 up, or with commas which. ValueError: neither."""
    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        numbers = ()
    seeds = numbers if "," in text else tuple(range(*numbers)) if numbers else ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds {text!r} names no seeds (3 for 0, 1 and 2; or which: 3,4,5)")
    return seeds


def parse_devices(text: str) -> tuple[str, ...]:
    """`cpu` once per process, or indices of CUDA devices. ValueError: neither, or no such device."""
    devices = tuple(part.strip() for part in text.split(","))
    if set(devices) == {CPU}:
        return devices
    if not all(each.isascii() and each.isdigit() for each in devices):
        raise ValueError(f"--devices {text!r} names no devices (cpu, cpu,cpu for two processes, or CUDA: 0,1)")
    num_there = torch.cuda.device_count()
    if max(int(each) for each in devices) >= num_there:
        raise ValueError(f"--devices {text!r}: {num_there} CUDA devices are here (count from 0, or cpu)")
    return tuple(str(int(each)) for each in devices)


def parse_peer(text: str) -> dict[str, Any]:
    """NAME or NAME:KEY=VALUE,... -> settings. ValueError names what is wrong."""
    name, _, rest = text.partition(":")
    known = {field.name for field in fields(PeerSettings)} - {"model", "image_size", "seed"}
    values: dict[str, Any] = {"model": name}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if key not in known or not value:
            raise ValueError(f"--peer {text!r}: no setting {part!r} (as in draem:steps=500,width=16)")
        values[key] = value if key in ("backbone", "sources", "device") else _number(text, part, value)
    return values


def _number(text: str, part: str, value: str) -> bool | float:
    number = yaml.safe_load(value)
    wants_flag, wants_float = part.startswith("allow_untrained="), part.startswith("coreset_ratio=")
    kinds = bool if wants_flag else int | float if wants_float else int
    if not isinstance(number, kinds) or isinstance(number, bool) != wants_flag:
        wanted = "true or false" if wants_flag else "a number" if wants_float else "a whole number"
        raise ValueError(f"--peer {text!r}: {part!r} is not {wanted} (as in draem:steps=500,width=16)")
    return number


def plan_of(request: Request) -> Plan:
    """Every task that the request needs. ValueError: an unknown suite, category, ablation or peer, or no data."""
    suite, wishes = _suite_of(request), _wishes_of(request)
    return make_plan(suite, suite.find_categories(request.data_dir, request.categories), wishes)


def run(request: Request, plan: Plan, *, with_figures: bool) -> tuple[Mapping[str, str], list[Table]]:
    """Run the plan and write the report. -> why tasks failed, by key; the tables."""
    if request.peers and not available(PEERS_PYTHON):
        raise ValueError(f"no anomalib at {PEERS_PYTHON} (run `make peers`)")
    busy = f"another process works in {request.out} (wait for it, or choose another one)"
    with locked(request.out, busy, is_folder=True):
        failed = run_plan(plan, request.out, request.devices)
        params = params_of(plan.suite, _wishes_of(request), FULL, request.seeds[0])
        drawn = _draw(plan, request.out) if with_figures else {}
        setup = summarise_setup(params, request.devices)
        return failed, write_report(plan, request.out, failed, figures=drawn, setup=setup)


def _suite_of(request: Request) -> Suite:
    if request.suite not in SUITES:
        raise ValueError(f"no suite {request.suite!r} (one of {', '.join(SUITES)})")
    return SUITES[request.suite]


def _wishes_of(request: Request) -> Wishes:
    for name in (*request.overrides, *request.ablations):
        if name.partition("=")[0].strip() == "seed":
            raise ValueError(f"{name!r}: a benchmark takes its seeds from --seeds (leave it out)")
    methods = [method_of(peer) for peer in request.peers]
    if len(set(methods)) < len(methods):
        raise ValueError(
            "two --peer are one row of the report (leave one out; sources and device do not tell them apart)"
        )
    return Wishes(
        data_dir=request.data_dir,
        params_path=request.params_path,
        profile=request.profile,
        overrides=request.overrides,
        seeds=request.seeds,
        variants=choose_variants(request.ablations),
        peers=[peer if request.devices[0] == CPU else {"device": "cuda", **peer} for peer in request.peers],
        peers_python=PEERS_PYTHON,
    )


def _draw(plan: Plan, out: Path) -> dict[str, bytes]:
    """One figure for every category's first trained NDP-Net, with the maps of every scoring in the plan."""
    scorings = list(dict.fromkeys(cell.variant.scoring for cell in plan.cells if cell.variant))
    drawn: dict[str, bytes] = {}
    for cell in plan.cells:
        title = f"Examples: {cell.category}"
        if cell.method != FULL.name or title in drawn:
            continue
        score = plan.tasks[cell.score]
        inputs = [plan.tasks[score.needs[kind]] for kind in (tasks.PREPARE, tasks.PHASE2)]
        if all(task.metrics(out) is not None for task in inputs):
            png = draw_figure(*(task.folder(out) for task in inputs), scorings=scorings)
            if png is not None:
                drawn[title] = png
                (out / "figures").mkdir(exist_ok=True)
                (out / "figures" / f"{cell.category}.png").write_bytes(png)
    return drawn
