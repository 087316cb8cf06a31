"""Trainings that are tracked, as rows and files."""

import json
import math
from pathlib import Path
from typing import Any

from ndpnet.config import PARAMS_PATH, load_params
from ndpnet.tracking.live import step_run

PARAMS = load_params(PARAMS_PATH)
NUM_STEPS = 40


def history(last_step: int = NUM_STEPS, *, factor: float = 1.0) -> list[dict[str, float]]:
    """Rows as a training writes them, one of a validation among them."""
    rows: list[dict[str, float]] = []
    for step in range(1, last_step + 1):
        rows.append({"step": step, "lr": 0.1 / step, "loss": factor * math.sqrt(step), "segmentation": factor / step})
        if step % 10 == 0:
            rows.append({"step": step, "validation/image_auroc": step / (100.0 * factor)})
    return rows


def write_rows(path: Path, rows: list[dict[str, float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def train(out: Path, rows: list[dict[str, float]], *, category: str = "brick", **options: Any) -> None:
    """A run of phase 1 whose training writes these rows."""
    with step_run("train-phase1", category, out=out, **{"params": PARAMS} | options) as run:
        write_rows(out / "history.jsonl", rows)
        (out / "phase1.json").write_text("{}")
        run.result({"loss": rows[-1].get("loss", 0.5), "seconds": 3.5, "step": NUM_STEPS})


def delivered(rows: list[dict[str, float]], name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in rows if name in row]


def sent(run: dict[str, Any], key: str) -> list[tuple[int, float]]:
    return [(step, value) for step, _, value in run["metrics"][key]]
