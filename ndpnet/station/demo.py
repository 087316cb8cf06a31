"""A station on the demo's pictures: its folder is fed with one every other second."""

import itertools
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ndpnet.files import replace_file
from ndpnet.station.config import StationConfig, parse_station

if TYPE_CHECKING:
    from ndpnet.station.station import Station

CATEGORY, LINE = "brick", "brick"
SECONDS = 2.0
DEFECTIVE_SHARE = 0.15


def demo_station(data_dir: Path, build_dir: Path) -> StationConfig:
    """A station with the demo's model. ValueError: there is none, or no pictures."""
    model, pictures = build_dir / CATEGORY / "model", data_dir / CATEGORY / "test"
    for path in (model / "config.json", pictures):
        if not path.exists():
            raise ValueError(f"the demo's {path} is not here (run `make demo` in this folder first)")
    folder = build_dir / "station"
    incoming = folder / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    line = {"name": LINE, "model": str(model), "source": str(incoming), "settle_seconds": 0}
    line |= {"done_dir": str(folder / "done")}
    return parse_station(
        {"folder": str(folder), "lines": [line], "drift": {"highest_defect_rate": 0.25}}, base=Path.cwd()
    )


def feed(station: "Station", data_dir: Path) -> None:
    """Put one test picture after the other into the station's folder, in a thread that ends with the process."""
    test_dir = data_dir / CATEGORY / "test"
    good = sorted((test_dir / "good").glob("*"))
    defective = sorted(path for path in test_dir.glob("*/*") if path.parent.name != "good")
    incoming = station.lines[LINE].config.source
    assert incoming is not None

    def go_on() -> None:
        draw = random.Random()
        for number in itertools.count(1):
            time.sleep(SECONDS)
            path = draw.choice(defective if draw.random() < DEFECTIVE_SHARE and defective else good)
            replace_file(incoming / f"{path.stem}_{number}{path.suffix}", path.read_bytes())

    threading.Thread(target=go_on, name="feeding", daemon=True).start()
