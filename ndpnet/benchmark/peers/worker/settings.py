"""What can be asked of a peer, and what each one's authors chose."""

from dataclasses import dataclass

LITE0 = "efficientnet-lite0"  # trained on ImageNet, its weights come with the environment


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a model's paper chose, or anomalib where it is silent; without epochs and steps it learns in one pass."""

    batch_size: int
    backbone: str | None = None
    epochs: int | None = None
    steps: int | None = None
    width: int | None = None
    least_image_size: int = 64
    needs_sources: bool = False
    takes_any_backbone: bool = False

    @property
    def is_trained_in_steps(self) -> bool:
        """Whether it has optimiser steps."""
        return self.epochs is not None or self.steps is not None


MODELS = {
    "padim": Published(backbone="resnet18", batch_size=32, takes_any_backbone=True),
    "patchcore": Published(backbone="wide_resnet50_2", batch_size=32, takes_any_backbone=True),
    "stfpm": Published(backbone="resnet18", epochs=100, batch_size=32, takes_any_backbone=True),
    "reverse_distillation": Published(backbone="wide_resnet50_2", epochs=200, batch_size=16),
    "ganomaly": Published(epochs=100, batch_size=32, width=64),
    "draem": Published(epochs=700, batch_size=8, width=128, needs_sources=True),
    "efficient_ad": Published(
        backbone="pdn_small", steps=70_000, batch_size=1, least_image_size=256, needs_sources=True
    ),
    "supersimplenet": Published(
        backbone="wide_resnet50_2.tv_in1k", epochs=300, batch_size=32, least_image_size=128, takes_any_backbone=True
    ),
}


@dataclass(frozen=True, kw_only=True)
class PeerSettings:
    """One run of a peer; None is what its authors published. ValueError names a value that cannot be, and the mend."""

    model: str
    image_size: int
    steps: int | None = None  # of the optimiser
    batch_size: int | None = None
    width: int | None = None  # channels of the first layer: draem, ganomaly
    backbone: str | None = None  # a name of timm's, or LITE0
    coreset_ratio: float = 0.1  # of the training patches that patchcore keeps
    sources: str | None = None  # folder of natural pictures: draem, efficient_ad
    allow_untrained: bool = False  # a backbone whose weights are not here runs with random ones, and is marked
    seed: int = 0
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"no peer {self.model!r} (one of {', '.join(sorted(MODELS))})")
        for name in ("image_size", "steps", "batch_size", "width", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} of {self.model} is {value} (at least 1)")
        if not 0 < self.coreset_ratio <= 1:
            raise ValueError(f"coreset_ratio is {self.coreset_ratio} (above 0, up to 1)")
        self._check_against(MODELS[self.model])

    def _check_against(self, published: Published) -> None:
        if self.image_size < published.least_image_size:
            raise ValueError(f"{self.model} takes pictures of at least {published.least_image_size} px")
        if self.steps is not None and not published.is_trained_in_steps:
            raise ValueError(f"{self.model} learns in one pass and has no steps (leave steps out)")
        if self.width is not None and published.width is None:
            raise ValueError(f"{self.model} has no width (leave it out; draem and ganomaly have one)")
        if self.width is not None and self.width % 2:
            raise ValueError(f"width of {self.model} is {self.width} (an even number)")
        if self.backbone not in (None, published.backbone) and not published.takes_any_backbone:
            raise ValueError(f"{self.model} takes no backbone {self.backbone!r} (leave it out)")
        if published.needs_sources and self.sources is None:
            raise ValueError(f"{self.model} needs natural pictures (name a folder of them as sources)")
        if self.model == "efficient_ad" and self.batch_size not in (None, 1):
            raise ValueError("efficient_ad learns from one picture a step (leave batch_size out)")

    @property
    def published(self) -> Published:
        """What the authors chose."""
        return MODELS[self.model]

    @property
    def used_batch_size(self) -> int:
        """Pictures in a step."""
        return self.batch_size or self.published.batch_size

    @property
    def used_backbone(self) -> str | None:
        """The backbone's name, if the model has one."""
        return self.backbone or self.published.backbone

    @property
    def used_width(self) -> int | None:
        """Channels of the first layer, if the model has a choice."""
        return self.width or self.published.width

    def used_steps(self, num_pictures: int) -> int:
        """Optimiser steps with so many training pictures; 0 where the model learns in one pass."""
        if self.steps is not None or self.published.epochs is None:
            return self.steps or self.published.steps or 0
        return self.published.epochs * -(-num_pictures // self.used_batch_size)
