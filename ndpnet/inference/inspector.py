"""From an image of any size to a verdict: the one path that calibration, evaluation and inspection share."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from ndpnet.data.images import fit_image, read_image
from ndpnet.inference.package import ModelPackage, read_package
from ndpnet.model import NDPNet
from ndpnet.model.denormals import denormals_flushed
from ndpnet.synthesis.compose import to_unit

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


@dataclass(frozen=True)
class Region:
    """A connected defect in pixels of the inspected image: box (left, top, width, height), area, highest score."""

    left: int
    top: int
    width: int
    height: int
    area: int
    score: float


@dataclass(frozen=True)
class Verdict:
    """What the model says of one image; maps have the image's own size (H, W)."""

    score: float
    threshold: float | None
    is_defective: bool | None  # None: the model has no threshold
    anomaly_map: np.ndarray = field(repr=False)  # float32 (H, W) in [0, 1]
    mask: np.ndarray = field(repr=False)  # bool (H, W)
    regions: tuple[Region, ...]
    reconstruction: np.ndarray = field(repr=False)  # uint8 (S, S, 3)


@dataclass(frozen=True)
class Prediction:
    """The network's answer at its own resolution S x S."""

    score: float
    anomaly_map: np.ndarray  # float32 (S, S)
    reconstruction: np.ndarray  # uint8 (S, S, 3)


class Inspector:
    """A loaded model package that inspects one image at a time."""

    def __init__(self, network: NDPNet, *, image_size: int, threshold: float | None, device: torch.device) -> None:
        self.network, self.image_size, self.threshold, self.device = network, image_size, threshold, device
        self.package: ModelPackage | None = None

    @classmethod
    @denormals_flushed()
    def load(cls, path: Path, *, device: str = "cpu", threshold: float | None = None) -> "Inspector":
        """Open a model package; `threshold` replaces the package's. ValueError if it cannot be read."""
        package = read_package(path)
        if threshold is None and package.threshold is not None:
            threshold = package.threshold["value"]
        target = _device(device)
        network = package.load_network(target)
        inspector = cls(network, image_size=package.image_size, threshold=threshold, device=target)
        inspector.package = package
        return inspector

    @torch.inference_mode()
    @denormals_flushed()  # as in training: fast, and the same bits in whatever process
    def predict(self, image: np.ndarray) -> Prediction:
        """Score and map at network resolution. image: uint8 (S, S, 3)."""
        # always alone: the bits of a convolution may depend on the batch it is part of
        batch = to_unit(torch.from_numpy(np.array(image)[None]).to(self.device))
        anomaly_map, reconstruction = self.network.predict(batch.contiguous(memory_format=torch.channels_last))
        anomaly_map = anomaly_map[0, 0].cpu().numpy()
        rebuilt = (reconstruction[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        return Prediction(float(anomaly_map.max()), anomaly_map, rebuilt)

    def inspect(self, image: Path | bytes | np.ndarray, *, name: str | None = None) -> Verdict:
        """Verdict on a file, its bytes, or an RGB array uint8 (H, W, 3). ValueError names it if it cannot be read."""
        name = name or (str(image) if isinstance(image, Path) else "the image")
        pixels = _checked(image, name) if isinstance(image, np.ndarray) else read_image(image, name=name)
        prediction = self.predict(fit_image(pixels, self.image_size, name=name))
        height, width = pixels.shape[:2]
        anomaly_map = _resize(prediction.anomaly_map, width, height, Image.Resampling.BILINEAR)
        if self.threshold is None:
            empty = np.zeros((height, width), dtype=bool)
            return Verdict(prediction.score, None, None, anomaly_map, empty, (), prediction.reconstruction)
        # at network resolution and in double precision, as the score: a defective image always has a region
        above = prediction.anomaly_map.astype(np.float64) > self.threshold
        mask = np.ascontiguousarray(scale_mask(scale_mask(above, height).T, width).T)
        regions = find_regions(above, prediction.anomaly_map, size=(height, width))
        return Verdict(
            score=prediction.score,
            threshold=self.threshold,
            is_defective=prediction.score > self.threshold,
            anomaly_map=anomaly_map,
            mask=mask,
            regions=regions,
            reconstruction=prediction.reconstruction,
        )


def find_regions(above: np.ndarray, anomaly_map: np.ndarray, *, size: tuple[int, int]) -> tuple[Region, ...]:
    """8-connected regions, highest score first; boxes hold every pixel they touch. (H, W) twice, size: the image's."""
    labels, _ = ndimage.label(above, structure=EIGHT_NEIGHBOURS)
    (height, width), (H, W) = size, above.shape
    regions = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[rows, columns] == label
        left, top = columns.start * width // W, rows.start * height // H
        right, bottom = -(-columns.stop * width // W), -(-rows.stop * height // H)  # rounded up
        area = max(1, round(int(inside.sum()) * height * width / (H * W)))
        score = float(anomaly_map[rows, columns][inside].max())
        regions.append(Region(left, top, right - left, bottom - top, area, score))
    return tuple(sorted(regions, key=lambda region: -region.score))


def scale_mask(mask: np.ndarray, num_rows: int) -> np.ndarray:
    """Scale the rows: nearest when there will be more, any of several when fewer. bool (H, W) -> (num_rows, W)."""
    H = len(mask)
    if num_rows >= H:
        return mask[(2 * np.arange(num_rows) + 1) * H // (2 * num_rows)]
    # a resize would lose regions between its samples: defective, and nothing to show
    return np.logical_or.reduceat(mask, np.arange(num_rows) * H // num_rows, axis=0)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"no device {name!r} (use cpu or cuda)") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name} was asked for, but no CUDA device is visible (use cpu)")
    return device


def _checked(image: np.ndarray, name: str) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"{name} is {image.dtype} {image.shape} (pass uint8 (H, W, 3), or the file)")
    return image


def _resize(values: np.ndarray, width: int, height: int, method: Image.Resampling) -> np.ndarray:
    return np.asarray(Image.fromarray(values).resize((width, height), method))
