"""Artificially defective images (Eq. 1), composed on the training device, every draw a function of its address."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ndpnet.config import SynthesisConfig
from ndpnet.data.arrays import spread_rows
from ndpnet.synthesis.bank import DefectBank

FILLING = ("source_gain", "source_bias", "is_grey", "plain_contrast", "is_dark", "is_plain", "beta", "softness")
CRACK_DEPTHS = (0.15, 0.7)  # share of the surface's light that a crack takes, at its darkest
FAINTEST = 0.3  # part of a crack, of its depth
NUM_LOOKED_AT = 64  # images, to learn whether the surface is grey
SAMPLES_AT_ONCE = 64  # on a GPU, where launching takes longer than computing: the batches of several steps


class Batch(NamedTuple):
    """clean, defective: (B, 3, P, P) in [0, 1]; mask: (B, 1, P, P), 1 = defect; image: (B,), rows of the images."""

    clean: torch.Tensor
    defective: torch.Tensor
    mask: torch.Tensor
    image: torch.Tensor


@dataclass
class SampleDraw:
    """The random numbers of one sample."""

    image: int
    top: float
    left: float
    surface_gain: float
    mask: int
    mask_symmetry: int
    source: int
    source_symmetry: int
    source_gain: float
    source_bias: float
    plain_contrast: float
    is_plain: bool
    is_dark: bool
    is_grey: bool
    beta: float
    softness: float
    is_defect_free: bool
    crack_depth: float
    crack_angle: float
    is_surface: bool
    other_image: int


class DefectComposer:
    """Batches of (clean, defective, mask) from prepared images and a bank, both kept on one device.

    images: uint8 (N, H, W, 3), no side below the bank's patch size; larger ones are cropped at random.
    """

    def __init__(
        self,
        images: np.ndarray,
        bank: DefectBank,
        synthesis: SynthesisConfig,
        *,
        defect_free_share: float = 0.0,
        seed: int,
        phase: int,
        device: torch.device,
    ) -> None:
        assert min(images.shape[1:3]) >= bank.patch_size, "parameters, and what was made with them, are compared before"
        self.images = _to_device(images, device)
        self.masks = _to_device(bank.masks, device)
        self.sources = _to_device(bank.sources, device)
        self.synthesis, self.defect_free_share = synthesis, defect_free_share
        self.seed, self.phase, self.device = seed, phase, device
        self.patch_size, self.first_crack = bank.patch_size, bank.first_crack
        self.bit_shifts = torch.arange(7, -1, -1, device=device, dtype=torch.uint8)
        some = images[spread_rows(len(images), NUM_LOOKED_AT)]
        self.is_grey_surface = bool((some[..., 0] == some[..., 2]).all())
        self.window_sizes = (
            window_sums(torch.ones(1, self.patch_size, self.patch_size, dtype=torch.uint8)).to(device).view(-1)
        )
        self.epoch, self.order = -1, np.empty(0, dtype=int)  # the shuffled epoch in use
        self.samples_at_once = SAMPLES_AT_ONCE if device.type == "cuda" else 0
        self.at_once: tuple[Any, list[Batch]] = (None, [])  # the batches of several steps, and of which

    def batch(self, step: int, batch_size: int, *, rank: int = 0, num_ranks: int = 1) -> Batch:
        """This process's share of the global batch of a step; `batch_size` is global."""
        samples = range(rank, batch_size, num_ranks)
        num_steps = max(1, self.samples_at_once // len(samples))
        if num_steps == 1:
            return self.compose([self.draw(step, batch_size, sample) for sample in samples])
        # groups begin at the same steps in whatever process: sums may depend on what they are computed with
        group, place = divmod(step, num_steps)
        if self.at_once[0] != (group, batch_size, rank, num_ranks):
            steps = range(group * num_steps, (group + 1) * num_steps)
            every = self.compose([self.draw(number, batch_size, sample) for number in steps for sample in samples])
            batches = zip(*(values.split(len(samples)) for values in every), strict=True)
            self.at_once = (group, batch_size, rank, num_ranks), [Batch(*parts) for parts in batches]
        return self.at_once[1][place]

    def draw(self, step: int, batch_size: int, sample: int) -> SampleDraw:
        """The random numbers of one sample: a function of (seed, phase, step, sample) alone."""
        rng = np.random.default_rng([self.seed, self.phase, step, sample])
        config = self.synthesis
        return SampleDraw(
            image=self._image_index(step * batch_size + sample),
            top=rng.random(),
            left=rng.random(),
            surface_gain=1 + config.surface_jitter * rng.uniform(-1, 1),
            mask=int(rng.integers(len(self.masks))),
            mask_symmetry=int(rng.integers(8)),
            source=int(rng.integers(len(self.sources))),
            source_symmetry=int(rng.integers(8)),
            source_gain=rng.uniform(0.6, 1.4),
            source_bias=rng.uniform(-0.2, 0.2),
            plain_contrast=rng.uniform(config.plain_contrast, 1),
            is_plain=rng.random() < config.plain_share,
            is_dark=rng.random() < 0.5,
            is_grey=self.is_grey_surface or rng.random() < 0.1,
            beta=rng.uniform(0, config.beta_max),
            softness=rng.uniform(0, config.edge_softness),
            is_defect_free=rng.random() < self.defect_free_share,
            crack_depth=rng.uniform(*CRACK_DEPTHS),
            crack_angle=rng.uniform(0, 2 * math.pi),
            is_surface=rng.random() < config.surface_share,
            other_image=int(rng.integers(len(self.images))),
        )

    def _image_index(self, position: int) -> int:
        """Image at a position of the endless stream of shuffled epochs."""
        epoch, index = divmod(position, len(self.images))
        if self.epoch != epoch:
            self.epoch = epoch
            self.order = np.random.default_rng([self.seed, self.phase, epoch]).permutation(len(self.images))
        return int(self.order[index])

    def compose(self, draws: list[SampleDraw]) -> Batch:
        """Carry out the draws (Eq. 1 with beta). -> Batch of len(draws) samples."""
        clean = self._surfaces(draws)
        mask = self._masks(draws)
        defective = self._cracked(self._defective(clean, mask, draws), clean, mask, draws)
        image = torch.tensor([draw.image for draw in draws], device=self.device)
        return Batch(clean, defective, mask[:, None].float(), image)

    def _defective(self, clean: torch.Tensor, mask: torch.Tensor, draws: list[SampleDraw]) -> torch.Tensor:
        """Eq. 1 with beta, at the pixels of defects alone. (B, 3, P, P), uint8 (B, P, P) -> (B, 3, P, P)."""
        pixels = clean.permute(0, 2, 3, 1).contiguous().view(-1, 3)  # (B*P*P, 3)
        is_soft = any(draw.softness > 0 for draw in draws)
        reach = window_sums(mask) if is_soft else mask
        at = reach.flatten().nonzero()[:, 0]  # (n,) of B*P*P
        sample = at // self.patch_size**2
        values = [[float(getattr(draw, name)) for name in FILLING] for draw in draws]
        table = torch.tensor(values, dtype=torch.float32, device=self.device)  # (B, len(FILLING))
        # index_select: torch copies whole rows, where an index in brackets goes number by number
        column = dict(zip(FILLING, table.index_select(0, sample).split(1, dim=1), strict=True))  # (n, 1) each
        surface = pixels.index_select(0, at)
        filling = self._natural_pixels(draws, at, sample)
        filling = (filling * column["source_gain"] + column["source_bias"]).clamp_(0, 1)
        filling = torch.lerp(filling, filling.mean(dim=1, keepdim=True), column["is_grey"])
        if any(draw.is_plain for draw in draws):
            # a grey per image: its mean moved by the contrast of the way to black or white
            contrast, is_dark = (table[:, FILLING.index(name)] for name in ("plain_contrast", "is_dark"))
            plain = torch.lerp(clean.mean(dim=(1, 2, 3)), 1 - is_dark, contrast)
            filling = torch.lerp(filling, plain[sample, None], column["is_plain"])
        filling = torch.lerp(filling, surface, column["beta"])
        if is_soft:
            inside = mask.flatten()[at, None].float()
            share = reach.flatten()[at, None] / self.window_sizes[at % self.patch_size**2, None]
            filling = blend(surface, filling, torch.lerp(inside, share, column["softness"]))
        defective = pixels.clone()
        defective[at] = filling
        return defective.view(clean.shape[0], self.patch_size, self.patch_size, 3).permute(0, 3, 1, 2)

    def _cracked(
        self, defective: torch.Tensor, clean: torch.Tensor, mask: torch.Tensor, draws: list[SampleDraw]
    ) -> torch.Tensor:
        """Cracks in the samples whose mask is one. (B, 3, P, P) twice, uint8 (B, P, P) -> (B, 3, P, P)."""
        chosen = [index for index, draw in enumerate(draws) if draw.mask >= self.first_crack]
        if chosen:
            of_crack = [[draws[index].crack_depth, draws[index].crack_angle] for index in chosen]
            depth, angle = torch.tensor(of_crack, device=self.device).view(-1, 2, 1, 1, 1).unbind(1)
            defective[chosen] = crack(clean[chosen], mask[chosen, None].float(), depth, angle)
        return defective

    def _natural_pixels(self, draws: list[SampleDraw], at: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """Pixels of the sources, or of other surfaces, under their symmetries. at: (n,) of B*P*P, sample: (n,).

        -> (n, 3) in [0, 1]
        """
        P = self.patch_size
        places = [[draw.source, draw.source_symmetry, draw.other_image, draw.is_surface] for draw in draws]
        chosen = torch.tensor(places, device=self.device)
        source, symmetry, image, is_surface = chosen.index_select(0, sample).unbind(1)
        row, column = turned_back(at // P % P, at % P, symmetry, P)
        pixels = self.sources.view(-1, 3).index_select(0, (source * P + row) * P + column)
        if any(draw.is_surface for draw in draws):
            first_row, first_column = (self.images.shape[1] - P) // 2, (self.images.shape[2] - P) // 2
            surfaces = self.images[image, row + first_row, column + first_column]
            pixels = torch.where(is_surface[:, None] > 0, surfaces, pixels)
        return pixels.float().div_(255)

    def _surfaces(self, draws: list[SampleDraw]) -> torch.Tensor:
        P = self.patch_size
        free_rows, free_columns = self.images.shape[1] - P + 1, self.images.shape[2] - P + 1
        crops = []
        for draw in draws:
            top, left = int(draw.top * free_rows), int(draw.left * free_columns)
            crops.append(self.images[draw.image, top : top + P, left : left + P])
        images = to_unit(torch.stack(crops))
        if self.synthesis.surface_jitter:
            gains = torch.tensor([draw.surface_gain for draw in draws], dtype=torch.float32, device=self.device)
            images.mul_(gains.view(-1, 1, 1, 1)).clamp_(max=1)
        return images

    def _masks(self, draws: list[SampleDraw]) -> torch.Tensor:
        """uint8 (B, P, P), empty where a sample is to be free of defects."""
        packed = self.masks[[draw.mask for draw in draws]]  # (B, P, P/8)
        packed[[index for index, draw in enumerate(draws) if draw.is_defect_free]] = 0
        bits = (packed[..., None] >> self.bit_shifts).bitwise_and_(1)  # (B, P, P/8, 8)
        masks = bits.flatten(2)[:, None]  # -> (B, 1, P, P)
        return apply_symmetries(masks, [draw.mask_symmetry for draw in draws])[:, 0]


def turned_back(
    row: torch.Tensor, column: torch.Tensor, symmetry: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a pixel was before `apply_symmetries` moved it. row, column, symmetry: (n,) -> row, column."""
    is_transposed = symmetry & 4 > 0
    row, column = torch.where(is_transposed, column, row), torch.where(is_transposed, row, column)
    return torch.where(symmetry & 2 > 0, size - 1 - row, row), torch.where(symmetry & 1 > 0, size - 1 - column, column)


def window_sums(mask: torch.Tensor) -> torch.Tensor:
    """Sums over 3x3 pixels, fewer at the border. uint8 (B, P, P) -> uint8 (B, P, P)."""
    padded = F.pad(mask, (1, 1, 1, 1))
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]


def blend(clean: torch.Tensor, filling: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """I_ad = I_o (1 - I_m) + filling I_m (Eq. 1), for shapes that broadcast, as (n, 3), (n, 3), (n, 1) -> (n, 3)."""
    return clean * (1 - mask) + filling * mask


def crack(clean: torch.Tensor, mask: torch.Tensor, depth: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Darken a surface along blurred masks by up to `depth` of its light, less and less across the image.

    clean: (B, 3, S, S), mask: (B, 1, S, S), depth: (B, 1, 1, 1), angle in which it fades: (B, 1, 1, 1) -> (B, 3, S, S).
    """
    line = torch.linspace(-0.5, 0.5, clean.shape[-1], device=clean.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    strength = (0.6 + torch.cos(angle) * x + torch.sin(angle) * y).clamp(FAINTEST, 1)
    for _ in range(2):  # about the profile of a real one: no lens shows a hard edge, and its walls are lit
        mask = F.avg_pool2d(mask, 3, stride=1, padding=1, count_include_pad=False)
    return clean * (1 - depth * strength * mask)


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [0, 1]."""
    return images.permute(0, 3, 1, 2).float().div_(255)


def apply_symmetries(images: torch.Tensor, symmetries: list[int]) -> torch.Tensor:
    """One of the square's 8 symmetries per image: bit 0 mirrors, 1 flips, 2 transposes. (B, C, S, S) -> same."""
    turned = []
    for image, code in zip(images, symmetries, strict=True):
        mirrored = [axis for bit, axis in ((1, 2), (2, 1)) if code & bit]
        image = image.flip(mirrored) if mirrored else image  # noqa: PLW2901
        turned.append(image.transpose(1, 2) if code & 4 else image)
    return torch.stack(turned)


def _to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    # mapped copy-on-write: torch takes it as it is, and pictures beyond the memory's size can be trained on
    is_mapped = isinstance(array, np.memmap) and array.flags.writeable
    return torch.from_numpy(array if is_mapped else np.array(array)).to(device)
