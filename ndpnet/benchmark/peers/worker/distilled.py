"""STFPM, reverse distillation and EfficientAD: a student that knows defect-free pictures only, beside a teacher."""

from collections.abc import Iterator
from pathlib import Path

import torch
from anomalib.models.image.efficient_ad.torch_model import EfficientAdModel, reduce_tensor_elems
from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss
from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
from anomalib.models.image.stfpm.loss import STFPMLoss
from anomalib.models.image.stfpm.torch_model import STFPMModel
from anomalib.utils.path import get_pretrained_weights_dir
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from worker.backbones import check_untrained, give_weights, without_weights
from worker.peer import Inputs, SteppedPeer
from worker.pictures import PLAIN
from worker.sources import find_sources


class Stfpm(SteppedPeer):
    """The student meets the teacher's features at three scales."""

    strides = (4, 8, 16)

    def build(self) -> None:
        """Anomalib's model; the student starts at random."""
        with without_weights():
            self.model = STFPMModel(layers=list(self.backbone.layers), backbone=self.backbone.timm_name)
        self.has_trained_weights = give_weights(
            self.model.teacher_model, self.backbone.name, allow_untrained=self.settings.allow_untrained
        )
        self.loss = STFPMLoss()

    def start(self, train: Inputs, num_steps: int) -> None:
        """SGD as in the paper, with anomalib's weight decay."""
        student = self.model.student_model.parameters()
        self.optimiser = torch.optim.SGD(student, lr=0.4, momentum=0.9, weight_decay=0.001)

    def step(self, images: Tensor) -> float:
        """One step of the student."""
        return self.descend(self.loss(*self.model(images)))


class ReverseDistillation(SteppedPeer):
    """The student decodes the teacher's features from their bottleneck."""

    strides = (4, 8, 16)

    def build(self) -> None:
        """Anomalib's model; maps of the layers are added up."""
        size = (self.settings.image_size,) * 2
        with without_weights():
            self.model = ReverseDistillationModel(
                backbone=self.backbone.timm_name,
                input_size=size,
                layers=list(self.backbone.layers),
                anomaly_map_mode=AnomalyMapGenerationMode.ADD,
                pre_trained=False,
            )
        self.has_trained_weights = give_weights(
            self.model.encoder, self.backbone.name, allow_untrained=self.settings.allow_untrained
        )
        self.loss = ReverseDistillationLoss()

    def start(self, train: Inputs, num_steps: int) -> None:
        """Adam as in the paper."""
        students = [*self.model.decoder.parameters(), *self.model.bottleneck.parameters()]
        self.optimiser = torch.optim.Adam(students, lr=0.005, betas=(0.5, 0.99))

    def step(self, images: Tensor) -> float:
        """One step of bottleneck and decoder."""
        return self.descend(self.loss(*self.model(images)))


class EfficientAd(SteppedPeer):
    """A small student and an autoencoder beside a teacher of patches; scaled by quantiles of the validation maps."""

    scaling = PLAIN  # the model scales by itself

    def build(self) -> None:
        """Anomalib's small model, its teacher's weights from anomalib's cache."""
        self.model = EfficientAdModel()
        folder = get_pretrained_weights_dir() / "efficientad_pretrained_weights"
        path = folder / "pretrained_teacher_small.pth"
        self.has_trained_weights = path.is_file()
        if not self.has_trained_weights:
            fetched_by = f"anomalib's release efficientad_pretrained_weights, unpacked as {folder}"
            check_untrained("efficient_ad's teacher", fetched_by, allow_untrained=self.settings.allow_untrained)
            return
        self.model.teacher.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def fit(self, train: Inputs, validation: Inputs) -> int:
        """Train, then find how far the maps of validation pictures go."""
        num_steps = super().fit(train, validation)
        self.model.eval()
        with torch.inference_mode():
            maps = [self.model.get_maps(images, normalize=False) for images in validation.batches(1)]
        for name, of_all in zip(("st", "ae"), zip(*maps, strict=True), strict=True):
            values = reduce_tensor_elems(torch.cat(of_all))
            for end, quantile in (("qa", 0.9), ("qb", 0.995)):
                self.model.quantiles[f"{end}_{name}"] = torch.quantile(values, quantile)
        return num_steps

    def start(self, train: Inputs, num_steps: int) -> None:
        """Adam, a tenth of the rate in the last 5 % of the steps; the teacher's channels are standardised."""
        students = [*self.model.student.parameters(), *self.model.ae.parameters()]
        self.optimiser = torch.optim.Adam(students, lr=1e-4, weight_decay=1e-5)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimiser, max(1, int(0.95 * num_steps)), gamma=0.1)
        self.model.mean_std.update(self._channel_statistics(train))
        self.penalties = self._penalty_images()

    def step(self, images: Tensor) -> float:
        """One step of student and autoencoder; the student is to know nothing of natural pictures."""
        return self.descend(sum(self.model(batch=images, batch_imagenet=next(self.penalties))))

    def _channel_statistics(self, train: Inputs) -> dict[str, Tensor]:
        """Mean and deviation of each of the teacher's channels over the training pictures. -> (1, C, 1, 1) each."""
        count, total, total_of_squares = 0, 0.0, 0.0
        with torch.no_grad():
            for images in train.batches(1):
                outputs = self.model.teacher(images).double()
                count += outputs[:, 0].numel()
                total = total + outputs.sum(dim=(0, 2, 3), keepdim=True)
                total_of_squares = total_of_squares + outputs.square().sum(dim=(0, 2, 3), keepdim=True)
        mean = total / count
        return {"mean": mean.float(), "std": (total_of_squares / count - mean**2).sqrt().float()}

    def _penalty_images(self) -> Iterator[Tensor]:
        """Natural pictures in shuffled order, for ever. -> (1, 3, S, S)."""
        size = self.settings.image_size
        transform = v2.Compose(
            [
                v2.Resize((2 * size, 2 * size)),
                v2.RandomGrayscale(p=0.3),
                v2.CenterCrop((size, size)),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
            ]
        )
        paths = find_sources(Path(self.settings.sources))
        while True:
            for index in torch.randperm(len(paths)):
                with Image.open(paths[index]) as picture:
                    yield transform(picture.convert("RGB"))[None].to(self.settings.device)
