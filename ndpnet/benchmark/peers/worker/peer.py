"""What all peers have in common: pictures in, scores and maps out; those with an optimiser share one loop."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from worker.backbones import Backbone, find_backbone
from worker.pictures import Scaling, draw_batches
from worker.settings import PeerSettings

LOG_SECONDS = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """Pictures of one split as a network takes them. pictures: uint8 (N, S, S, 3)."""

    pictures: np.ndarray
    scaling: Scaling
    device: str

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, rows: np.ndarray | slice) -> Tensor:
        """Return some pictures, scaled. -> float32 (B, 3, S, S)."""
        images = torch.from_numpy(np.array(self.pictures[rows])).to(self.device)
        images = images.permute(0, 3, 1, 2).contiguous().float() / 255  # (B, S, S, 3) -> (B, 3, S, S)
        mean, deviation = (torch.tensor(each, device=self.device).view(1, 3, 1, 1) for each in self.scaling)
        return (images - mean) / deviation

    def batches(self, size: int) -> Iterator[Tensor]:
        """Every picture once, in order."""
        for start in range(0, len(self), size):
            yield self[start : start + size]


class Peer(ABC):
    """A model, how it learns, and what it says of pictures."""

    model: nn.Module
    scaling: Scaling
    strides: ClassVar[tuple[int, ...]] = ()
    map_source: ClassVar[str] = "the model's own"

    def __init__(self, settings: PeerSettings) -> None:
        self.settings = settings
        self.backbone: Backbone | None = None
        if self.strides:
            self.backbone = find_backbone(settings.used_backbone, self.strides)
            self.scaling = self.backbone.scaling
        self.has_trained_weights = False
        self.build()
        self.model.to(settings.device)

    @abstractmethod
    def build(self) -> None:
        """Make `model`."""

    @abstractmethod
    def fit(self, train: Inputs, validation: Inputs) -> int:
        """Learn from defect-free pictures. -> optimiser steps done."""

    def predict(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Judge pictures. images: (B, 3, S, S) -> scores (B,), maps (B, S, S)."""
        B, _, S, _ = images.shape
        result = self.model(images)
        return result.pred_score.reshape(B), result.anomaly_map.reshape(B, S, S)


class SteppedPeer(Peer):
    """A peer that learns by an optimiser."""

    def fit(self, train: Inputs, validation: Inputs) -> int:
        """Take as many steps as the settings say. ValueError: the loss is not finite."""
        del validation
        num_steps = self.settings.used_steps(len(train))
        self.start(train, num_steps)
        self.model.train()
        last_logged = time.monotonic()
        rows_of_steps = draw_batches(len(train), self.settings.used_batch_size, num_steps, self.settings.seed)
        for step, rows in enumerate(rows_of_steps, start=1):
            loss = self.step(train[rows])
            if not np.isfinite(loss):
                raise ValueError(f"the loss of {self.settings.model} is {loss} at step {step} (try another seed)")
            if step == num_steps or time.monotonic() - last_logged > LOG_SECONDS:
                logger.info("step %d of %d, loss %.4g", step, num_steps, loss)
                last_logged = time.monotonic()
        return num_steps

    @abstractmethod
    def start(self, train: Inputs, num_steps: int) -> None:
        """Make the optimiser and its schedule."""

    @abstractmethod
    def step(self, images: Tensor) -> float:
        """Take one step. images: (B, 3, S, S) -> loss."""

    def descend(self, loss: Tensor) -> float:
        """Take a step of `optimiser` and of its `schedule`."""
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        if self.schedule is not None:
            self.schedule.step()
        return loss.item()

    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None
