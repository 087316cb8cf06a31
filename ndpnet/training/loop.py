"""How the steps of a phase are run: devices, optimiser, checkpoints, history, progress. What a step is, tasks say."""

import copy
import logging
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from ndpnet.config import Params, PhaseConfig
from ndpnet.model import Network
from ndpnet.model.layers import ConvBlock
from ndpnet.synthesis.compose import Batch, DefectComposer
from ndpnet.training.checkpoint import Checkpoint
from ndpnet.training.processes import fabric_processes
from ndpnet.training.tasks import PhaseTask, settle_statistics

logger = logging.getLogger(__name__)

FLUSH_STEPS = 16  # losses stay on the device that long
LAST_RATE = 0.01  # of the cosine schedule
# what BatchNorm's statistics are taken from: so many passes, each over so many batches at once, which without gradients
# fits where one does with them. The variance within a small batch leaves out that its mean differs from the others'
STATISTICS_PASSES, BATCHES_AT_ONCE = 4, 4
WITHOUT_BF16 = ("NO AVX", "AVX2")  # processors as torch calls them

Validate = Callable[[Network], dict[str, float]]


@dataclass(frozen=True)
class PhasePlan:
    """Everything that decides what a phase computes, besides the data."""

    title: str
    params: Params
    phase: PhaseConfig
    num_images: int

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole phase: so many epochs, but no fewer than `min_steps` however few pictures."""
        of_epochs = math.ceil(self.phase.epochs * self.num_images / self.params.train.batch_size)
        return max(1, self.phase.min_steps, of_epochs)

    def learning_rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ...: constant, or half a cosine down to 1 %."""
        if self.params.train.schedule == "constant":
            return self.phase.learning_rate
        fraction = step / max(1, self.num_steps - 1)
        return self.phase.learning_rate * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * fraction)) / 2)

    def is_validation_due(self, step: int) -> bool:
        """Whether the synthetic validation set is looked at once `step` steps are done."""
        count = self.params.train.num_validations
        return count > 0 and (step * count) // self.num_steps > ((step - 1) * count) // self.num_steps


class Trainer:
    """One phase on this process's devices; resumes from its checkpoint, bit for bit."""

    def __init__(
        self, fabric: Fabric, task: PhaseTask, composer: DefectComposer, plan: PhasePlan, checkpoint: Checkpoint
    ) -> None:
        self.fabric, self.composer, self.plan, self.checkpoint = fabric, composer, plan, checkpoint
        self.network = task.network
        train = plan.params.train
        parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(
            parameters, lr=plan.phase.learning_rate, weight_decay=train.weight_decay, fused=True
        )
        task = task.to(memory_format=torch.channels_last)
        for block in task.modules():
            if isinstance(block, ConvBlock):
                block.is_recomputed = plan.params.runtime.recompute_features
        self.task, self.optimizer = fabric.setup(task, optimizer)
        # on the same device, and in no optimiser
        self.average = copy.deepcopy(self.network) if train.ema_decay else None
        self.kept_task = type(task)(self.average or self.network, None, plan.params.losses)
        self.step = 0
        self.settled_step = -1  # that the statistics of `kept_task` are of
        self.pending: list[tuple[float, dict[str, torch.Tensor]]] = []
        self._resume()

    def run(self, validate: Validate | None) -> dict[str, float]:
        """Take all remaining steps. -> seconds and images/s. RuntimeError on a non-finite loss."""
        runtime = self.plan.params.runtime
        progress = Progress(
            self.plan.title,
            num_steps=self.plan.num_steps,
            first_step=self.step,
            batch_size=self.plan.params.train.batch_size,
            log_seconds=runtime.log_seconds,
        )
        saved = time.monotonic()
        while self.step < self.plan.num_steps:
            self.run_step()
            is_validation = self.plan.is_validation_due(self.step)
            is_save = time.monotonic() - saved >= runtime.checkpoint_seconds or self.step == self.plan.num_steps
            if is_validation or is_save or len(self.pending) >= FLUSH_STEPS:
                progress.update(self.step, self.flush())
            if is_validation and validate is not None:
                self._validate(validate)
            if is_save:
                self.save()
                saved = time.monotonic()
        return progress.close()

    def run_step(self) -> None:
        """Compose a batch, step the optimiser, remember the losses."""
        learning_rate = self._set_learning_rate()
        self.task.train()
        terms = self.task(self._batch())
        self.fabric.backward(terms["loss"])
        self._clip_gradients()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._update_average()
        self.step += 1
        self.pending.append((learning_rate, self._mean_over_ranks(terms)))

    def flush(self) -> float:
        """Write pending losses to the history. -> the last. RuntimeError names step and terms of a non-finite one."""
        rows = []
        first = self.step - len(self.pending) + 1
        for step, (learning_rate, terms) in enumerate(self.pending, start=first):
            values = {name: term.item() for name, term in terms.items()}
            if not all(math.isfinite(value) for value in values.values()):
                raise RuntimeError(
                    f"{self.plan.title}: non-finite loss at step {step}: {values} (lower the learning rate; "
                    f"the last checkpoint is in {self.checkpoint.folder})"
                )
            rows.append({"step": step, "lr": learning_rate} | values)
        self.pending.clear()
        if self.fabric.is_global_zero:
            self.checkpoint.append_history(rows)
        return rows[-1]["loss"] if rows else math.nan

    def final_network(self) -> Network:
        """The network to keep, in eval mode: averaged parameters where averaging is on, statistics of these.

        In the first process alone: it composes the whole batches. The same bits after a resume.
        """
        if self.settled_step != self.step:  # the last validation looks at what is packaged
            settle_statistics(self.kept_task, map(self._large_batch, range(STATISTICS_PASSES)))
            self.settled_step = self.step
        return self.kept_task.network

    def save(self) -> None:
        """Checkpoint everything that the next step depends on."""
        if not self.fabric.is_global_zero:
            return
        state: dict[str, Any] = {"step": self.step, "network": self.network.state_dict()}
        # a finite loss may leave a gradient that is not: its weights must not replace the last good ones
        if not all(values.isfinite().all() for values in state["network"].values()):
            raise RuntimeError(
                f"{self.plan.title}: non-finite weights after step {self.step} (lower the learning rate)"
            )
        state["optimizer"] = self.optimizer.state_dict()
        if self.average is not None:
            state["average"] = self.average.state_dict()
        self.checkpoint.save(state)

    def _resume(self) -> None:
        state = self.checkpoint.load()
        self._check_same_start(state["step"] if state else 0)
        if self.fabric.is_global_zero:
            self.checkpoint.cut_history(state["step"] if state else 0)
        if state is None:
            return
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        logger.info("%s: resumed after step %d of %d", self.plan.title, self.step, self.plan.num_steps)

    def _check_same_start(self, step: int) -> None:
        if self.fabric.world_size == 1:
            return
        starts = torch.as_tensor(self.fabric.all_gather(torch.tensor(step))).unique().tolist()
        if len(starts) > 1:
            raise ValueError(
                f"{self.plan.title}: the processes resume after different steps, {starts}: "
                "they do not see one work folder (choose one that all nodes share)"
            )

    def _batch(self) -> Batch:
        batch_size = self.plan.params.train.batch_size
        fabric = self.fabric
        return self.composer.batch(self.step, batch_size, rank=fabric.global_rank, num_ranks=fabric.world_size)

    def _large_batch(self, number: int) -> Batch:
        """Batches of all processes that would follow after the last one that is trained on, in one."""
        first = self.plan.num_steps + number * BATCHES_AT_ONCE
        steps = range(first, first + BATCHES_AT_ONCE)
        batches = [self.composer.batch(step, self.plan.params.train.batch_size) for step in steps]
        return Batch(*map(torch.cat, zip(*batches, strict=True)))

    @torch.no_grad()
    def _update_average(self) -> None:
        """Move the averaged parameters towards the present ones, faster at first: what they start with is no result."""
        if self.average is None:
            return
        decay = min(self.plan.params.train.ema_decay, (1 + self.step) / (10 + self.step))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        moved = [(average, present) for average, present in pairs if present.requires_grad]
        get_ema_multi_avg_fn(decay)(*map(list, zip(*moved, strict=True)), None)

    def _mean_over_ranks(self, terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        terms = {name: term.detach() for name, term in terms.items()}
        # in every step, not in flush: processes flush by their own clocks
        if self.fabric.world_size == 1:
            return terms
        return {name: torch.as_tensor(self.fabric.all_reduce(term, reduce_op="mean")) for name, term in terms.items()}

    def _set_learning_rate(self) -> float:
        learning_rate = self.plan.learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        return learning_rate

    def _clip_gradients(self) -> None:
        largest = self.plan.params.train.gradient_clip
        if largest:
            self.fabric.clip_gradients(self.task, self.optimizer, max_norm=largest, error_if_nonfinite=False)

    def _validate(self, validate: Validate) -> None:
        if not self.fabric.is_global_zero:
            return
        scores = validate(self.final_network())
        self.checkpoint.append_history([{"step": self.step} | {f"validation/{name}": scores[name] for name in scores}])


class Progress:
    """Shows step, loss, images/s and time left of one phase: a bar on a terminal, a line at times elsewhere."""

    def __init__(self, title: str, *, num_steps: int, first_step: int, batch_size: int, log_seconds: float) -> None:
        self.title, self.num_steps, self.batch_size, self.log_seconds = title, num_steps, batch_size, log_seconds
        self.first_step, self.started = first_step, time.monotonic()
        self.last_line = self.started
        is_terminal = sys.stderr.isatty()
        self.bar = tqdm(desc=title, total=num_steps, initial=first_step, unit="step") if is_terminal else None

    def update(self, step: int, loss: float) -> None:
        """Tell that `step` steps are done."""
        now = time.monotonic()
        rate = (step - self.first_step) / max(now - self.started, 1e-9)
        if self.bar is not None:
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix(loss=f"{loss:.4f}", images_per_s=f"{rate * self.batch_size:.1f}")
        elif now - self.last_line >= self.log_seconds or step == self.num_steps:
            self.last_line = now
            seconds_left = (self.num_steps - step) / max(rate, 1e-9)
            about = self.title, step, self.num_steps, loss, rate * self.batch_size, tqdm.format_interval(seconds_left)
            logger.info("%s: step %d/%d, loss %.4f, %.1f images/s, %s left", *about)

    def close(self) -> dict[str, float]:
        """End the display. -> seconds and images/s of this process's part of the phase."""
        if self.bar is not None:
            self.bar.close()
        seconds = time.monotonic() - self.started
        done = self.num_steps - self.first_step
        return {"seconds": seconds, "images_per_second": done * self.batch_size / max(seconds, 1e-9)}


def make_fabric(params: Params) -> Fabric:
    """Devices and precision as the parameters ask for. ValueError in one line if they are not there."""
    runtime = params.runtime
    torch.set_num_threads(params.train.num_threads)
    if runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it before its first use
    torch.use_deterministic_algorithms(runtime.deterministic)
    # a tool to find reads of memory that nothing was written to; some 5 % of a step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of a module
    if runtime.accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("runtime.accelerator is cuda, but no CUDA device is visible (use auto or cpu)")
    processes = fabric_processes(runtime.devices)
    fabric = Fabric(accelerator=runtime.accelerator, precision=params.train.precision, **processes)
    capability = torch.backends.cpu.get_cpu_capability()
    if params.train.precision == "bf16-mixed" and fabric.device.type == "cpu" and capability in WITHOUT_BF16:
        logger.warning(
            "this processor (%s) has no bf16: train.precision 32-true takes a fraction of the time", capability
        )
    return fabric
