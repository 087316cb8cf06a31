"""RBFRM, FFM and RBAM against loops over patches and positions."""

import itertools

import numpy as np
import pytest
import torch
from networks import normal

from ndpnet.model.attention import ReferenceRepair, from_patches, to_patches


def patches_of(image: np.ndarray, size: int) -> list[tuple[int, int, np.ndarray]]:
    """Top, left and pixels of every K x K patch of (C, H, W)."""
    corners = itertools.product(range(0, image.shape[1], size), range(0, image.shape[2], size))
    return [(top, left, image[:, top : top + size, left : left + size]) for top, left in corners]


def transcribed_repair(feats: np.ndarray, references: np.ndarray, size: int, scale: float) -> np.ndarray:
    """Eq. 3-5, one patch at a time. feats: (B, C, H, W), references: (R, C, h, w)."""
    known = [patch for reference in references for *_, patch in patches_of(reference, size)]
    repaired = np.zeros_like(feats)
    for image, out in zip(feats, repaired, strict=True):
        for top, left, patch in patches_of(image, size):
            norms = [np.linalg.norm(patch) * np.linalg.norm(other) for other in known]
            cosines = np.array([np.sum(patch * other) for other in known]) / norms
            weights = np.exp(scale * cosines) / np.exp(scale * cosines).sum()
            mixed = sum(weight * other for weight, other in zip(weights, known, strict=True))
            out[:, top : top + size, left : left + size] = mixed
    return repaired


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(("scale", "num_references"), [(1.0, 1), (10.0, 1), (3.0, 2)])
def test_repair_is_eq_3_to_5(size: int, scale: float, num_references: int) -> None:
    repair = ReferenceRepair(patch_size=size, softmax_scale=scale)
    feats = normal(2, 3, 8, 4)
    references = normal(num_references, 3, 4, 12, seed=1)  # another size than the input
    repair.set_reference(references)
    expected = transcribed_repair(feats.double().numpy(), references.double().numpy(), size, scale)
    np.testing.assert_allclose(repair(feats).numpy(), expected, atol=1e-5)


def test_many_patches_are_repaired_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    repair = ReferenceRepair(patch_size=2, softmax_scale=3.0)
    repair.set_reference(normal(1, 3, 8, 8, seed=1))
    feats = normal(2, 3, 12, 8)  # 24 patches
    expected = repair(feats)
    monkeypatch.setattr("ndpnet.model.attention.MAX_QUERIES", 10)
    torch.testing.assert_close(repair(feats), expected)


def test_zero_features_mix_all_reference_patches_alike() -> None:
    reference = normal(1, 2, 4, 4)
    repair = ReferenceRepair(patch_size=2)
    repair.set_reference(reference)
    mean = to_patches(reference, 2).mean(dim=1, keepdim=True).expand(1, 4, -1)
    torch.testing.assert_close(repair(torch.zeros(1, 2, 4, 4)), from_patches(mean, 2, 4, 4), atol=1e-6, rtol=0)


def test_the_cosine_is_computed_in_fp32_under_autocast() -> None:
    repair = ReferenceRepair(patch_size=2, softmax_scale=10.0)
    repair.set_reference(normal(1, 3, 8, 8, seed=1))
    feats = normal(1, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(repair(feats), repair(feats.clone()))
        low = repair(feats)
    assert low.dtype == torch.float32
    assert torch.equal(low, repair(feats))
