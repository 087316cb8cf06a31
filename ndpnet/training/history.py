"""Reading what a phase noted step by step."""

import json
from pathlib import Path


def history_of(path: Path) -> list[dict[str, float]]:
    """Rows of a history.jsonl."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
