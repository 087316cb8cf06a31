"""One very large picture in `tile` mode: what `inspect` takes per megapixel, from the file to the overlay."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

SIDES = (2500, 5000)  # of the pictures, in pixels
# reads, judges and draws a picture with an engine that takes no memory, and prints the most that the process had
CHILD = """
import resource, sys
from pathlib import Path
import numpy as np
from ndpnet.data.tiling import Tiling
from ndpnet.inference import Inspector
from ndpnet.inference.folder import inspect_folder

class Brightness:
    def predict(self, images):
        return images.mean(axis=3, dtype=np.float32) / 255

tiling = Tiling(512, float(sys.argv[3]), has_filters=False)
inspector = Inspector(Brightness(), input_size=(256, 256), threshold=0.5, tiling=tiling)
inspect_folder(inspector, Path(sys.argv[1]), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_scan(path: Path, side: int) -> None:
    """A dark surface with a bright defect."""
    surface = np.random.default_rng(0).integers(60, 90, (side, side, 1), dtype=np.uint8).repeat(3, axis=2)
    surface[side // 2 : side // 2 + 80, side // 2 : side // 2 + 80] = 255
    Image.fromarray(surface).save(path)


def peak_mebibytes(scan: Path, out: Path, scale: float) -> float:
    command = [sys.executable, "-c", CHILD, str(scan), str(out), str(scale)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    (row,) = map(json.loads, (out / "predictions.jsonl").read_text().splitlines())
    assert (row["verdict"], row["num_regions"]) == ("defective", 1)
    assert Image.open(out / f"overlays/{scan.name}.jpg").width in (1250, 1667)
    return int(finished.stdout.split()[-1]) / 1024


@pytest.mark.parametrize(("scale", "most"), [(1.0, 15), (0.5, 25)])
def test_memory_grows_by_a_few_bytes_per_pixel(tmp_path: Path, scale: float, most: float) -> None:
    """The figures of docs/serving.md. Measured: 11.6 and 21 MiB per megapixel."""
    peaks = []
    for side in SIDES:
        write_scan(tmp_path / f"{side}.bmp", side)
        peaks.append(peak_mebibytes(tmp_path / f"{side}.bmp", tmp_path / f"out {side}", scale))
    megapixels = (SIDES[1] ** 2 - SIDES[0] ** 2) / 1e6
    assert (peaks[1] - peaks[0]) / megapixels < most
