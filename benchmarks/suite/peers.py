"""Other people's models, trained and judged on prepared data in an environment of their own (`make peers`)."""

import json
import signal
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ndpnet.benchmark import peer_worker
from ndpnet.benchmark.peer_worker import LITE0, MODELS
from ndpnet.data.fitting import continue_surface
from ndpnet.data.prepared import PreparedData
from ndpnet.files import write_json
from ndpnet.folders import atomic_folder

__all__ = ["LITE0", "MODELS", "Peer", "is_available", "parse_peer", "run_peer"]

PYTHON = Path(".venv-peers/bin/python")  # what `make peers` makes
WORKER = Path(peer_worker.__file__)
JOB, TEST, PREDICTIONS, RESULT = "job.json", "test.npy", "predictions.npz", "peer.json"
ALIASES = {"coreset_ratio": "coreset_sampling_ratio"}


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A model and how it is trained; None is what its paper has. options: other arguments of anomalib's class."""

    text: str  # as it was asked for: its name in tables
    model: str
    steps: int | None = None
    batch_size: int | None = None
    sources: str | None = None  # folder of natural pictures: draem, efficient_ad
    allow_untrained: bool = False  # where no weights are here, the backbone runs at random, and is marked
    options: dict[str, Any] = field(default_factory=dict)


def parse_peer(text: str) -> Peer:
    """Read NAME or NAME:KEY=VALUE,... ValueError names what is wrong."""
    name, _, rest = text.partition(":")
    if name not in MODELS:
        raise ValueError(f"no peer {name!r} (one of {', '.join(sorted(MODELS))})")
    values: dict[str, Any] = {"options": {}}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        if not value:
            raise ValueError(f"--peer {text!r}: {part!r} has no value (as in patchcore:coreset_ratio=0.01)")
        number = yaml.safe_load(value)
        if key in ("steps", "batch_size", "allow_untrained"):
            kind = bool if key == "allow_untrained" else int
            if type(number) is not kind or number < 0:
                raise ValueError(f"--peer {text!r}: {part!r} is not {'true or false' if kind is bool else 'a number'}")
            values[key] = number
        elif key == "sources":
            values[key] = str(Path(value).absolute())  # the worker runs elsewhere
        else:
            values["options"][ALIASES.get(key, key)] = number
    if MODELS[name].sources_argument and "sources" not in values:
        raise ValueError(f"{name} needs natural pictures (add sources=FOLDER)")
    return Peer(text=text, model=name, **values)


def is_available(python: Path) -> bool:
    """Whether `python` runs and has what a peer needs; nothing heavy is imported."""
    code = "from importlib.metadata import version; version('anomalib'), version('torch')"
    try:
        finished = subprocess.run([python, "-c", code], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return finished.returncode == 0


def run_peer(
    prepared_dir: Path, out_dir: Path, peer: Peer | str, *, seed: int = 0, device: str = "cpu", python: Path = PYTHON
) -> dict[str, Any]:
    """Train a peer on `train` and judge `test`: OUT_DIR/predictions.npz (scores, raw maps), peer.json. -> the latter.

    What the worker prints goes to OUT_DIR.log. ValueError: one line that names the cause and that log.
    """
    peer = parse_peer(peer) if isinstance(peer, str) else peer
    # not resolved: the link's place is what makes it the python of its environment
    out_dir, python = Path(out_dir).resolve(), Path(python).absolute()
    prepared = PreparedData.load(prepared_dir)
    _check(prepared, peer)
    if not is_available(python):
        raise ValueError(f"no anomalib at {python} (run `make peers`, or name the python that has it)")
    settings = asdict(peer) | {"input_size": prepared.input_size, "seed": seed, "device": device}
    with atomic_folder(out_dir, marker=RESULT) as partial_dir:
        filled = [continue_surface(image, prepared.input_size) for image in prepared.images("test")]
        np.save(partial_dir / TEST, np.stack(filled))
        pictures = {split: str(prepared.folder.resolve() / f"{split}.npy") for split in ("train", "validation")}
        pictures["test"] = str(partial_dir / TEST)
        job = {"pictures": pictures, "out": str(partial_dir), "settings": settings}
        write_json(partial_dir / JOB, job)
        _run_worker(partial_dir / JOB, out_dir.with_name(f"{out_dir.name}.log"), peer.model, python)
        for name in (JOB, TEST):
            (partial_dir / name).unlink()
    return json.loads((out_dir / RESULT).read_text(encoding="utf-8"))


def _check(prepared: PreparedData, peer: Peer) -> None:
    if prepared.tiling is not None:
        raise ValueError(
            f"peers take pictures of one size, {prepared.folder} has scans (prepare with data.mode=resize)"
        )
    if prepared.roi() is not None:
        raise ValueError(f"peers know no region of interest, {prepared.folder} has one (prepare without roi.png)")
    if not prepared.records("test"):
        raise ValueError(f"no test picture in {prepared.folder} (add some under test/)")
    if peer.model == "efficient_ad" and not prepared.records("validation"):
        raise ValueError(
            f"efficient_ad scales its maps on validation pictures, and {prepared.folder} has none "
            "(prepare with data.validation_fraction above 0)"
        )


def _run_worker(job_path: Path, log_path: Path, model: str, python: Path) -> None:
    with log_path.open("w", encoding="utf-8") as log:
        # the worker reads its standard input to learn that this process has ended
        process = subprocess.Popen(
            [python, WORKER, job_path], stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
    if code:
        raise ValueError(f"{model}: {_cause(code, log_path)} (its log: {log_path})")


def _cause(code: int, log_path: Path) -> str:
    """Return in one line why a worker ended."""
    if code < 0:
        return f"the worker was killed by {signal.Signals(-code).name}"
    # progress bars end in a carriage return
    lines = [line.strip() for line in log_path.read_text(encoding="utf-8", errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), f"the worker ended with {code}")
    return last.removeprefix("ValueError: ")
