"""Running a peer's worker in its own environment, and reading what it left."""

import json
import logging
import signal
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ndpnet.benchmark.peers.worker.settings import PeerSettings
from ndpnet.data.prepared import PreparedData
from ndpnet.files import atomic_folder, check_output, hash_of, write_json

JOB, PREDICTIONS, RESULT = "job.json", "predictions.npz", "peer.json"
PEERS_DIR = Path(__file__).parent

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PeerResult:
    """What a peer made of the test pictures, and what that took; `info` is all of peer.json."""

    folder: Path
    info: dict[str, Any]

    @property
    def scores(self) -> np.ndarray:
        """The model's own score of each prepared test picture, in their order. -> float64 (N,)."""
        return self._read("scores")

    @property
    def maps(self) -> np.ndarray:
        """Raw anomaly maps at the network's input size. -> float32 (N, S, S)."""
        return self._read("maps")

    def _read(self, name: str) -> np.ndarray:
        with np.load(self.folder / PREDICTIONS) as predictions:
            return predictions[name]


def available(python: Path) -> bool:
    """Whether `python` runs and has what a peer needs; nothing heavy is imported."""
    code = "from importlib.metadata import version; version('anomalib'), version('torch')"
    try:
        finished = subprocess.run([python, "-c", code], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return finished.returncode == 0


def run_peer(prepared_dir: Path, out_dir: Path, settings: PeerSettings, *, python: Path) -> PeerResult:
    """Train a peer on `train`, score `test`, write predictions.npz and peer.json; or reuse a finished `out_dir`.

    What the worker prints goes to OUT_DIR.log. ValueError: one line that names the cause and that log.
    """
    # not resolved: the link's place is what makes it the python of its environment
    out_dir, python = Path(out_dir).resolve(), Path(python).absolute()
    if settings.sources is not None:  # the worker runs in another folder
        settings = replace(settings, sources=str(Path(settings.sources).absolute()))
    prepared = PreparedData.load(prepared_dir)
    _check(prepared, settings)
    identity = {"settings": asdict(settings), "data": hash_of([prepared.manifest.data_hash, prepared.settings])}
    finished = _finished(out_dir, identity)
    if finished is not None:
        logger.info("%s is finished: reused", out_dir)
        return finished
    if not available(python):
        raise ValueError(f"no anomalib at {python} (run `make peers`, or name the python that has it)")
    with atomic_folder(out_dir, marker=RESULT) as partial_dir:
        job = {"prepared": str(prepared.folder.resolve()), "out": str(partial_dir), **identity}
        write_json(partial_dir / JOB, job)
        _run_worker(partial_dir / JOB, out_dir.with_name(f"{out_dir.name}.log"), settings.model, python)
        (partial_dir / JOB).unlink()
    return PeerResult(out_dir, _read_info(out_dir))


def _check(prepared: PreparedData, settings: PeerSettings) -> None:
    if prepared.tiling is not None:
        raise ValueError(
            f"peers take pictures of one size, {prepared.folder} has scans (prepare with data.mode=resize)"
        )
    if prepared.image_size != settings.image_size:
        raise ValueError(
            f"{prepared.folder} has pictures of {prepared.image_size} px, the peer is to take {settings.image_size} px "
            f"(prepare with data.image_size={settings.image_size})"
        )
    if not prepared.records("test"):
        raise ValueError(f"no test picture in {prepared.folder} (add some under test/)")
    if settings.model == "efficient_ad" and not prepared.records("validation"):
        raise ValueError(
            f"efficient_ad scales its maps on validation pictures, and {prepared.folder} has none "
            "(prepare with data.validation_fraction above 0)"
        )


def _finished(out_dir: Path, identity: dict[str, Any]) -> PeerResult | None:
    if not (out_dir / RESULT).exists():
        check_output(out_dir, marker=RESULT)
        return None
    info = _read_info(out_dir)
    if any(info.get(key) != value for key, value in identity.items()):
        raise ValueError(f"{out_dir} has the result of other settings or data (remove it, or choose another folder)")
    return PeerResult(out_dir, info)


def _read_info(out_dir: Path) -> dict[str, Any]:
    try:
        return json.loads((out_dir / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {out_dir / RESULT} (remove {out_dir} and run the peer again)") from error


def _run_worker(job_path: Path, log_path: Path, model: str, python: Path) -> None:
    command = [str(python), "-m", "worker", str(job_path)]
    with log_path.open("w", encoding="utf-8") as log:
        # the worker reads its standard input to learn that this process has ended
        process = subprocess.Popen(
            command, cwd=PEERS_DIR, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, text=True
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
