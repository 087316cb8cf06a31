"""Rows on the machine and the speed, measured while a step runs.

Not MLflow's own sampler: it sends to the server what it measures and forgets it when the server is down. These rows go
to a file and are delivered from there, as the history is.
"""

import json
import sys
import time
from pathlib import Path

import psutil

MEGABYTE = 1 << 20


class Sampler:
    """Appends rows to a file: `system/...` by their number, images/s by the training's step."""

    def __init__(self, path: Path, batch_size: int) -> None:
        self.path, self.batch_size = path, batch_size
        self.number = path.read_bytes().count(b"\n") if path.is_file() else 0
        self._process = psutil.Process()
        self._process.cpu_percent(), psutil.cpu_percent()  # the first reading has nothing to compare with
        self._speed_from: tuple[float, int] | None = None

    def sample(self, training_step: int) -> None:
        """Measure now; `training_step` is the last that is known, 0 where none is."""
        self.number += 1
        now = int(time.time() * 1000)
        rows = [{"step": self.number, "time": now, **self._machine()}]
        speed = self._speed(training_step)
        if speed is not None:
            rows.append({"step": training_step, "time": now, "train/images_per_second": speed})
        with self.path.open("a") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)

    def _machine(self) -> dict[str, float]:
        with self._process.oneshot():
            values = {
                "system/cpu_percent": psutil.cpu_percent(),
                "system/process_cpu_percent": self._process.cpu_percent(),
                "system/process_memory_megabytes": self._process.memory_info().rss / MEGABYTE,
            }
        return values | {"system/memory_percent": psutil.virtual_memory().percent} | _gpu()

    def _speed(self, training_step: int) -> float | None:
        """Images per second since the last call; None where nothing was trained or a training went back."""
        now, before = time.monotonic(), self._speed_from
        if not training_step or not self.batch_size:
            return None
        self._speed_from = (now, training_step)
        if before is None or training_step <= before[1]:
            return None
        return (training_step - before[1]) * self.batch_size / max(now - before[0], 1e-9)


def _gpu() -> dict[str, float]:
    """Memory of the GPU that this process computes on; nothing where it uses none."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_initialized():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "system/gpu_memory_megabytes": (total - free) / MEGABYTE,
        "system/gpu_memory_percent": 100 * (total - free) / total,
    }
