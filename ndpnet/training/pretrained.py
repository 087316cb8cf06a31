"""What is fitted without steps behind a frozen ImageNet encoder: statistics, the bank, the scales of the maps."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from ndpnet.data.arrays import spread_rows
from ndpnet.model.pretrained import PretrainedNDPNet
from ndpnet.synthesis.compose import to_unit

MAX_FITTED = 256  # pictures that statistics and bank are taken from, spread over all
STREAM = 4  # of the random draws
PICTURES_AT_ONCE = 8
RARE_SHARE = 0.25  # of the bank: patches that are least like the others in it; the rest is drawn
NUM_CANDIDATES = 32_768  # drawn, that these are chosen from


@torch.no_grad()
def fit_bank(network: PretrainedNDPNet, images: np.ndarray, groups: Sequence[str], *, seed: int) -> None:
    """Take from good pictures: statistics of channels and colours, and the bank. uint8 (N, H, W, 3); groups: names."""
    rows = spread_rows(len(images), MAX_FITTED)
    numbers = group_numbers(groups)[rows]
    batches = list(_batches(images, rows))
    network.encoder.fit(batches)
    network.colours.fit(batches)
    levels = [
        [*network.repairable(network.encoder(batch)), network.colours(batch), network.shades(batch)]
        for batch in batches
    ]
    rng = np.random.default_rng([seed, STREAM])
    banks = [*network.banks, network.colour_bank, network.shade_bank]
    for bank, level in zip(banks, zip(*levels, strict=True), strict=True):
        maps = torch.cat(level)
        places = maps.shape[2] * maps.shape[3]
        patches = maps.permute(0, 2, 3, 1).flatten(0, 2)  # (N, C, h, w) -> (N*h*w, C)
        chosen = _choose(patches, len(bank.patches), bank.seen, rng)
        bank.patches.copy_(patches[chosen])
        bank.groups.copy_(numbers[chosen // places])


def _choose(
    patches: torch.Tensor, count: int, seen: Callable[[torch.Tensor], torch.Tensor], rng: np.random.Generator
) -> torch.Tensor:
    """Indices of a bank: most are drawn, the others added one by one, each the farthest from all before (k-center).

    What is good but rare would else be far from the bank, and an alarm. patches: (N, C) -> (count,).
    """

    def draw(number: int) -> torch.Tensor:
        return torch.from_numpy(np.sort(rng.choice(len(patches), number, replace=len(patches) < number)))

    num_rare = int(RARE_SHARE * count)
    drawn, candidates = draw(count - num_rare), draw(min(NUM_CANDIDATES, len(patches)))
    points, known = seen(patches[candidates]), seen(patches[drawn])
    squares = points.square().sum(dim=1)
    gaps = torch.cat([torch.cdist(part, known).amin(dim=1) for part in points.split(2048)]).square()
    rare = []
    for _ in range(num_rare):
        farthest = int(gaps.argmax())
        rare.append(farthest)
        gaps = torch.minimum(gaps, squares - 2 * (points @ points[farthest]) + squares[farthest])
    return torch.cat([drawn, candidates[rare]])


def fit_scales(network: PretrainedNDPNet, held_out: np.ndarray, trained: np.ndarray, groups: Sequence[str]) -> None:
    """Put the maps on one scale by good pictures that were held out, or where there are none by those trained on."""
    rows = spread_rows(len(trained), MAX_FITTED)
    of_rows = group_numbers(groups)[rows].split(PICTURES_AT_ONCE)
    seen = list(zip(_batches(trained, rows), of_rows, strict=True))
    network.fit_tone(seen)
    unseen = [(batch, None) for batch in _batches(held_out, spread_rows(len(held_out), MAX_FITTED))]
    network.fit_scales(unseen or seen)


def group_numbers(groups: Sequence[str]) -> torch.Tensor:
    """A number for each picture's group; with one group alone one for each picture. -> (N,)."""
    _, numbers = np.unique(np.asarray(groups), return_inverse=True)
    return torch.from_numpy(numbers if numbers.max() > 0 else np.arange(len(groups)))


def _batches(images: np.ndarray, rows: np.ndarray) -> Iterator[torch.Tensor]:
    for start in range(0, len(rows), PICTURES_AT_ONCE):
        yield to_unit(torch.from_numpy(np.array(images[rows[start : start + PICTURES_AT_ONCE]])))
