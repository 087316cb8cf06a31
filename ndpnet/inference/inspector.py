"""From an image of any size to a verdict: the one path that calibration, evaluation and inspection share."""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ndpnet.data.fitting import continue_surface, covered_size, fit_image, scale_plane, scale_scan, scaled_size
from ndpnet.data.images import OpenedImage, open_image
from ndpnet.data.roi import check_roi_fits
from ndpnet.data.tiling import Tiling
from ndpnet.inference.engines import engine_name
from ndpnet.inference.engines.engine import Engine, TorchEngine
from ndpnet.inference.engines.stored import open_graph_of, read_engine
from ndpnet.inference.likeness import unlike
from ndpnet.inference.package import ModelPackage, read_package
from ndpnet.inference.regions import area_score, find_regions, without_small
from ndpnet.inference.rules import Rules
from ndpnet.inference.scanning import predict_scan, rebuild_scan
from ndpnet.inference.verdict import Verdict
from ndpnet.metrics.exact import image_score
from ndpnet.model.denormals import denormals_flushed
from ndpnet.model.folding import fold_batch_norms

Pixels = np.ndarray | OpenedImage  # uint8 (H, W, 3), or decoded alone

CALIBRATED, MANUAL = "calibrated", "manual"  # where a threshold comes from


@dataclass(frozen=True)
class Prediction:
    """The network's answer at its own resolution: the input's, or in `tile` mode that of the scaled scan."""

    score: float
    anomaly_map: np.ndarray  # float32 (H, W), 0 outside the region of interest


class Inspector:
    """A trained model that tells good pictures from defective ones.

        inspector = Inspector.load("build/NAME/model")
        verdict = inspector.inspect("new.png")  # or bytes, or an array uint8 (H, W, 3), RGB, or (H, W)
        print(verdict)                          # defective: score 0.7244, threshold 0.5947
        verdict.save("new-verdict.png")
        for verdict in inspector.inspect_many(pictures):
            verdict.is_defective, verdict.regions, verdict.warnings

    With `tiling` it takes scans of any size. roi: bool (H, W) as it was drawn. Outside it the anomaly map is 0, whoever
    asks: no score, verdict or region. rules: zones, and the smallest defect: then a score is the highest level that a
    region of that area reaches.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        input_size: tuple[int, int],
        aspect_ratio: float | None = None,
        threshold: float | None = None,
        tiling: Tiling | None = None,
        roi: np.ndarray | None = None,
        rules: Rules | None = None,
        score_pixels: int = 1,
    ) -> None:
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"the threshold {threshold} is no number to compare with (give one from 0 to 1)")
        self.engine, self.input_size, self.threshold = engine, input_size, threshold
        self.aspect_ratio = input_size[1] / input_size[0] if aspect_ratio is None else aspect_ratio
        self.score_pixels = score_pixels
        self.tiling, self.roi = tiling, roi
        self.fitted_roi = None if roi is None else scale_plane(roi, self._size_of(roi.shape))  # at network resolution
        self.rules, self._smallest = rules, 1
        # how much of each pixel of the anomaly map counts, (H, W) in [0, 1]; None: all
        self.weights: np.ndarray | None = self.fitted_roi
        if rules is not None:
            self._follow(rules)
        self.package: ModelPackage | None = None
        self.threshold_record: dict[str, Any] | None = None  # the engine's own; None if `load` was given one by hand
        self.engine_name = "torch-fp32"
        self.bit_depth: int | None = None  # of the pictures the package was made of; None: not known

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "cpu",
        threshold: float | None = None,
        engine: str = "torch",
        precision: str | None = None,
    ) -> "Inspector":
        """Open a model package; `threshold` replaces the package's. ValueError if it cannot be read.

        engine: torch, or one that `ndpnet export` added: onnx, openvino, with its own threshold; precision: the finest
        there is if left out.
        """
        package = read_package(Path(path))
        opened, name, record = _open_engine(package, engine, precision, device)
        if threshold is not None:
            record = None  # what it promises is said of its own value
        elif record is not None:
            threshold = record["value"]
        inspector = cls.of(package, opened, threshold=threshold, roi=package.roi(), rules=package.rules())
        inspector.package, inspector.threshold_record, inspector.engine_name = package, record, name
        inspector.bit_depth = package.manifest().bit_depth
        return inspector

    @classmethod
    def of(cls, package: ModelPackage, engine: Engine, **judging: Any) -> "Inspector":
        """An inspector for a package's pictures, by any engine. judging: threshold, roi and rules, by default none."""
        return cls(
            engine,
            input_size=package.input_size,
            aspect_ratio=package.aspect_ratio,
            tiling=package.tiling,
            score_pixels=package.score_pixels,
            **judging,
        )

    def _follow(self, rules: Rules) -> None:
        shape = self._size_of((rules.height, rules.width)) if self.fitted_roi is None else self.fitted_roi.shape
        zones, self._smallest = rules.weights(shape), rules.num_pixels(shape)
        if zones is not None:
            self.weights = zones if self.fitted_roi is None else zones * self.fitted_roi
        inspected = np.ones(shape, dtype=bool) if self.inspected is None else self.inspected
        if not without_small(inspected, self._smallest).any():  # every score would be the map's lowest level
            raise ValueError("the rules' smallest_defect exceeds any part that is inspected (check mm_per_pixel)")

    def __repr__(self) -> str:
        category = "no package" if self.package is None else self.package.config["category"]
        size = f"{self.input_size[1]}x{self.input_size[0]} px" + ("" if self.tiling is None else " tiles")
        bound = "no threshold" if self.threshold is None else f"threshold {self.threshold:.4f} {self.threshold_source}"
        return f"Inspector({category}, {size}, {self.engine_name}, {bound})"

    @property
    def map_level(self) -> float | None:
        """What the map of a good surface hardly exceeds: where its colours start. None: not known."""
        surface = None if self.package is None else self.package.surface
        return None if surface is None else surface["map_level"]

    @property
    def inspected(self) -> np.ndarray | None:
        """Where a defect can be, at network resolution; None: everywhere. -> bool (H, W)."""
        return None if self.weights is None or self.weights.all() else self.weights > 0

    def part(self, window: tuple[slice, slice]) -> "Inspector":
        """The same for one part of its pictures. window: rows and columns at network resolution."""
        part = copy.copy(self)
        planes = (self.fitted_roi, self.weights)
        part.fitted_roi, part.weights = (None if plane is None else plane[window] for plane in planes)
        return part

    @property
    def opened_package(self) -> ModelPackage:
        """The package that it was loaded from: `load` opened one."""
        assert self.package is not None
        return self.package

    @property
    def review_threshold(self) -> float | None:
        """From where on a person should look at what is not defective; None: two verdicts, or a lower threshold."""
        review = (self.threshold_record or {}).get("review")
        return review["value"] if review is not None and review["value"] < self.threshold else None

    @property
    def threshold_source(self) -> str:
        """CALIBRATED, or MANUAL: given by hand, and no false-alarm rate is guaranteed."""
        record = self.threshold_record
        return MANUAL if record is None or record["value"] != self.threshold else CALIBRATED

    def open(self, source: Path | bytes, *, name: str | None = None) -> Pixels:
        """What `fit` takes: a picture, or the pixels of a scan. ValueError: it cannot be read."""
        opened = open_image(source, name=name)
        return opened if self.tiling is None else opened.rgb(self.bit_depth)

    def pixels(self, picture: Pixels) -> np.ndarray:
        """All pixels. -> uint8 (H, W, 3)."""
        return picture if isinstance(picture, np.ndarray) else picture.rgb(self.bit_depth)

    def fit(self, picture: Pixels, *, name: str = "the image") -> np.ndarray:
        """What `predict` takes, as `prepare` stores it: what it covers of the input, or the scaled scan.

        uint8 (H, W, 3). ValueError: another size than the rules', or another aspect ratio than the region's.
        """
        height, width = picture.shape[:2]
        if self.rules is not None:
            self.rules.check_size(width, height, name=name)
        if self.roi is not None:
            check_roi_fits(self.roi, width, height, mode="resize" if self.tiling is None else "tile", name=name)
        if self.tiling is not None:
            return scale_scan(self.pixels(picture), self.tiling.scale, name=name)
        size = self._size_of((height, width)) if self.fitted_roi is None else self.fitted_roi.shape
        if isinstance(picture, np.ndarray):
            return fit_image(picture, size, name=name)
        return picture.fitted(size, self.bit_depth)

    def _size_of(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Height and width at network resolution of a picture of (height, width)."""
        height, width = size
        if self.tiling is not None:
            return scaled_size(height, width, self.tiling.scale)
        return covered_size((height, width), self.input_size, self.aspect_ratio)

    @torch.inference_mode()
    @denormals_flushed()  # as in training: fast, and the same bits in whatever process
    def predict(self, image: np.ndarray, *, name: str = "the image") -> Prediction:
        """Score and map at network resolution. image: what `fit` returns. ValueError: they are no numbers."""
        if self.tiling is None:
            anomaly_map = self._run(self.engine.predict, image)
        else:
            anomaly_map = predict_scan(self.engine, image, self.tiling)
        if self.weights is not None:
            if self.weights.shape != anomaly_map.shape:
                sizes = [f"{plane.shape[1]}x{plane.shape[0]}" for plane in (anomaly_map, self.weights)]
                raise ValueError(f"{name} has {sizes[0]} pixels, the model's region of interest or zones {sizes[1]}")
            anomaly_map *= self.weights
        if not np.isfinite([anomaly_map.min(), anomaly_map.max()]).all():
            raise ValueError(f"the model's answer to {name} is not a number everywhere: no verdict (is it damaged?)")
        has_smallest = self._smallest > 1
        score = area_score(anomaly_map, self._smallest) if has_smallest else image_score(anomaly_map, self.score_pixels)
        return Prediction(score, anomaly_map)

    @torch.inference_mode()
    @denormals_flushed()
    def rebuild(self, image: np.ndarray) -> np.ndarray:
        """Reconstruction of a picture that is fitted, or of a part of a scan. uint8 (H, W, 3) -> uint8 (H, W, 3)."""
        if self.tiling is None:
            rebuilt = self._run(self.engine.rebuild, image)
        else:
            rebuilt = rebuild_scan(self.engine, image, self.tiling)
        return (rebuilt * 255).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)

    def _run(self, compute: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> np.ndarray:
        """What the engine makes of what the image covers of the input. uint8 (H, W, 3) -> (..., H, W)."""
        height, width = image.shape[:2]
        # always alone: the bits of a convolution may depend on the batch it is part of
        return compute(np.array(continue_surface(image, self.input_size))[None])[0, ..., :height, :width]

    def inspect(self, image: str | Path | bytes | np.ndarray, *, name: str | None = None) -> Verdict:
        """Verdict on a file, its bytes, or an array uint8: RGB (H, W, 3) or grey (H, W). ValueError names the fault."""
        image = Path(image) if isinstance(image, str) else image
        name = name or (str(image) if isinstance(image, Path) else "the image")
        picture = self.open(image, name=name) if isinstance(image, (Path, bytes)) else _checked(image, name)
        fitted = self.fit(picture, name=name)
        return self.verdict(picture, fitted, self.predict(fitted, name=name))

    def inspect_many(self, images: Iterable[str | Path | bytes | np.ndarray]) -> Iterator[Verdict]:
        """Verdicts in the order of the images, each when it is asked for; bit for bit what `inspect` says of each."""
        return map(self.inspect, images)

    def verdict(self, picture: Pixels, fitted: np.ndarray, prediction: Prediction) -> Verdict:
        """What `inspect` says. picture: what `open` returns; fitted: what `fit` made of it."""
        size, surface = picture.shape[:2], None if self.package is None else self.package.surface
        return replace(
            self.judge(prediction, size=size),
            warnings=tuple(unlike(surface, fitted, (size[1], size[0]), is_tiled=self.tiling is not None)),
            pixels=partial(self.pixels, picture),
            rebuild=partial(self.rebuild, fitted) if self.tiling is None else None,
            map_level=self.map_level,
        )

    def judge(self, prediction: Prediction, *, size: tuple[int, int]) -> Verdict:
        """Verdict of a prediction; `size`: the picture's own (height, width). ValueError: its score is no number."""
        if not np.isfinite(prediction.score):
            raise ValueError(f"the score is {prediction.score}: no verdict (is the model damaged?)")
        anomaly_map, level = prediction.anomaly_map, self._marked_from(prediction.score)
        above = np.zeros_like(anomaly_map, dtype=bool)
        if level is not None and prediction.score > level:
            # at network resolution and in double precision, as the score: good images have no region, all others have
            above = anomaly_map > np.float64(level)
        if self.weights is not None:
            above &= self.weights > 0  # whatever the threshold
        above = without_small(above, self._smallest)
        return Verdict(
            score=prediction.score,
            threshold=self.threshold,
            size=size,
            regions=find_regions(above, anomaly_map, size=size),
            network_map=anomaly_map if level is None else self._without_specks(anomaly_map, level),
            network_mask=above,
            network_roi=self.inspected,
            review_threshold=self.review_threshold,
        )

    def _marked_from(self, score: float) -> float | None:
        """The level above which a picture is marked: the threshold, or of what is not defective the review's."""
        is_defective = self.threshold is not None and score > self.threshold
        return self.threshold if is_defective or self.review_threshold is None else self.review_threshold

    def _without_specks(self, anomaly_map: np.ndarray, level: float) -> np.ndarray:
        """The map that people see: what is too small for a defect does not stand out. -> float32 (H, W)."""
        if self._smallest == 1:
            return anomaly_map
        above = anomaly_map > level
        is_speck = above & ~without_small(above, self._smallest)
        return np.where(is_speck, np.nextafter(np.float32(level), np.float32(0)), anomaly_map)


@denormals_flushed()
def _open_engine(
    package: ModelPackage, engine: str, precision: str | None, device: str
) -> tuple[Engine, str, dict[str, Any] | None]:
    """The engine, its full name, and its threshold record."""
    if engine != "torch":
        if device != "cpu":
            raise ValueError(f"the engine {engine} runs on the CPU, not on {device} (leave out the device)")
        folder, stored = read_engine(package, engine, precision)
        return open_graph_of(folder, package, engine, stored["float_type"]), folder.name, stored["threshold"]
    name = engine_name(engine, precision or "fp32")
    target = _device(device)
    network = fold_batch_norms(package.load_network(target))
    return TorchEngine(network, target, has_filters=package.tiling is None), name, package.threshold


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"no device {name!r} (use cpu or cuda)") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name} was asked for, but no CUDA device is visible (use cpu)")
    return device


def _checked(image: Any, name: str) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{name} is a {type(image).__name__} (pass an array, or the file)")
    if image.dtype != np.uint8 or not image.size or image.ndim < 2 or image.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"{name} is {image.dtype} {image.shape} (pass uint8 (H, W, 3) or (H, W), or the file)")
    return image if image.shape[2:] == (3,) else np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
