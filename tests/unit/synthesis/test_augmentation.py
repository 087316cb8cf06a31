"""DRAEM's changes of a filling: three a picture, of ten."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import synthesis_config

from ndpnet.synthesis.augmentation import _changes
from ndpnet.synthesis.bank import DefectBank, make_bank


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth colours with a bright corner."""
    rows, columns = np.mgrid[0:64, 0:64]
    picture = np.stack([40 + 2 * rows, 60 + columns, 200 - rows - columns], axis=2).clip(0, 255).astype(np.uint8)
    picture[:8, :8] = 250
    return picture


@pytest.mark.parametrize("change", _changes())
def test_every_change_keeps_the_shape_and_changes_something(
    picture: np.ndarray, change: Callable[..., torch.Tensor]
) -> None:
    image = torch.from_numpy(picture).permute(2, 0, 1)
    changed = [change(image, np.random.default_rng(seed)) for seed in range(6)]
    assert {(each.dtype, each.shape) for each in changed} == {(torch.uint8, (3, 64, 64))}
    assert sum(not torch.equal(each, image) for each in changed) >= 2


def test_a_bank_of_changed_whole_photographs(tmp_path: Path, picture: np.ndarray) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture).resize((96, 96)).save(tmp_path / "photos/one.png")
    settings = {"patch_size": 64, "num_masks": 8, "num_sources": 60, "source_augmentation": "draem"}
    make_bank(tmp_path / "bank", synthesis_config(**settings, sources=str(tmp_path / "photos")), seed=3)
    sources = DefectBank.load(tmp_path / "bank").sources
    assert len(np.unique(sources, axis=0)) >= 50  # not every change is of a random strength
    corners = sources[:, 0, 0].mean(axis=1)
    assert (corners < 5).sum() >= 5  # black beyond a turned picture, or inverted
    assert (corners > 200).sum() >= 10  # the whole picture: its corner is the photograph's
