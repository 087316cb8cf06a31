"""The region of interest: which pixels of a category's pictures are inspected (white) and which ignored (black)."""

from pathlib import Path

import numpy as np
from PIL import Image

from ndpnet.data.images import read_image

ROI = "roi.png"
WHITE = 128  # grey levels from here on are white
ASPECT_TOLERANCE = 0.02  # a picture of 1000x750 pixels and its region drawn at 333x250 are of one aspect


def read_roi(path: Path) -> np.ndarray | None:
    """Decode a region of interest; None without the file. -> bool (H, W). ValueError: unreadable, or all black."""
    if not Path(path).exists():
        return None
    inspected = read_image(Path(path)).max(axis=2) >= WHITE
    if not inspected.any():
        raise ValueError(f"{path} is all black: nothing would be inspected (paint white what is to be inspected)")
    return inspected


def find_roi(category_dir: Path) -> np.ndarray | None:
    """The region of interest among a category's data, or None. -> bool (H, W). ValueError: unreadable, or misnamed."""
    named = sorted(path.name for path in Path(category_dir).glob("*") if path.stem.lower() == Path(ROI).stem)
    if named and ROI not in named:
        # passed over in silence, everything would be inspected
        raise ValueError(f"{Path(category_dir) / named[0]} is not named {ROI} (save it as a PNG with this name)")
    return read_roi(Path(category_dir) / ROI)


def write_roi(path: Path, roi: np.ndarray) -> None:
    """Save a region as a black and white PNG; equal regions give equal bytes. roi: bool (H, W)."""
    Image.fromarray(roi.astype(np.uint8) * 255).save(path, format="PNG")


def check_roi_fits(roi: np.ndarray, width: int, height: int, *, mode: str, name: str) -> None:
    """Refuse a picture of another size than the region in tile mode, of another aspect in resize mode."""
    roi_height, roi_width = roi.shape
    sizes = f"{name} has {width}x{height} pixels, the region of interest {roi_width}x{roi_height}"
    if mode == "tile" and (width, height) != (roi_width, roi_height):
        raise ValueError(f"{sizes} (draw {ROI} at the scans' size; all scans must have it)")
    if abs(width * roi_height / (height * roi_width) - 1) > ASPECT_TOLERANCE:
        raise ValueError(f"{sizes}, of another aspect (draw {ROI} over one of the pictures)")
