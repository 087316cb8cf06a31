"""A defect in any corner of any picture is marked there: in the rows, in the map and in the overlay."""

import json
from pathlib import Path

import numpy as np
import pytest
from networks import Brightness
from PIL import Image, ImageOps

from ndpnet.data.tiling import Tiling
from ndpnet.inference import Inspector
from ndpnet.inference.folder import inspect_folder

SIDE, DEFECT = 64, 24  # of what `resize` makes of a picture, and of the bright square, in pixels
SIZES = {"portrait": (290, 140), "landscape": (130, 260)}  # (height, width)
MODES = {"resize": None, "tile": Tiling(128), "tile of a scaled scan": Tiling(128, 0.5)}
SIDEWAYS = 6  # EXIF: to be turned by 90 degrees to the right


def write(path: Path, pixels: np.ndarray, orientation: int | None) -> None:
    """Write a picture upright, or as a camera does that was held sideways."""
    image = Image.fromarray(pixels)
    if orientation is None:
        return image.save(path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    return image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


def box_of(mask: np.ndarray) -> list[int]:
    """(top, left, bottom, right) of what is True."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return [int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("size", "orientation"), [("portrait", None), ("landscape", SIDEWAYS)])
def test_a_defect_in_a_corner_is_marked_there(tmp_path: Path, size: str, mode: str, orientation: int | None) -> None:
    height, width = SIZES[size]
    (tmp_path / "pictures").mkdir()
    truths = {}
    for name, (top, left) in {
        "top left": (0, 0), "top right": (0, width - DEFECT),
        "bottom left": (height - DEFECT, 0), "bottom right": (height - DEFECT, width - DEFECT),
    }.items():  # fmt: skip
        truths[f"{name}.png"] = mask = np.zeros((height, width), dtype=bool)
        mask[top : top + DEFECT, left : left + DEFECT] = True
        pixels = np.where(mask[..., None], 255, np.uint8([40, 40, 40])).astype(np.uint8)
        write(tmp_path / "pictures" / f"{name}.png", pixels, orientation)
        shown = ImageOps.exif_transpose(Image.open(tmp_path / "pictures" / f"{name}.png"))
        np.testing.assert_array_equal(np.asarray(shown), pixels)
    inspector = Inspector(Brightness(), input_size=(SIDE, SIDE), threshold=0.6, tiling=MODES[mode])
    assert inspect_folder(inspector, tmp_path / "pictures", tmp_path / "out")["defective"] == 4
    for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        truth = truths[row["path"]]
        expected = np.array(box_of(truth))
        assert (row["height"], row["width"]) == (height, width)
        (region,) = row["regions"]
        box = [region["top"], region["left"], region["top"] + region["height"], region["left"] + region["width"]]
        # a pixel of the network's map is up to 4.5 of the picture's, and the map's filters take the corners off
        np.testing.assert_allclose(box, expected, atol=5)
        anomaly_map = inspector.inspect(tmp_path / "pictures" / row["path"]).anomaly_map
        assert anomaly_map[truth].mean() > 0.9
        assert anomaly_map[~truth].mean() < 0.3
        overlay = np.asarray(Image.open(tmp_path / "out/overlays" / f"{row['path']}.jpg")).astype(int)
        zoom = overlay.shape[1] // width  # small pictures are enlarged, and below the caption
        overlay = overlay[-height * zoom :: zoom, ::zoom]
        assert overlay.shape == (height, width, 3)
        heat = overlay[..., 0]  # of the colour scale's lower half, which ends in a dark violet
        assert heat[truth].mean() > 200
        assert heat[~truth].mean() < 120
        contour = np.abs(overlay - (230, 20, 60)).max(axis=2) < 40
        np.testing.assert_allclose(box_of(contour), expected, atol=5)
