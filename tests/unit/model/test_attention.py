"""RBFRM, FFM and RBAM against loops over patches and positions."""

import itertools

import numpy as np
import pytest
import torch
from networks import normal

from ndpnet.model.attention import FeatureFusion, ReferenceAttention, ReferenceRepair, from_patches, to_patches


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
    sizes = []
    of_chunk = repair._repair
    monkeypatch.setattr(repair, "_repair", lambda patches: sizes.append(patches.shape[1]) or of_chunk(patches))
    torch.testing.assert_close(repair(feats), expected)
    assert sizes == [10, 10, 4]


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


def test_a_norm_and_a_relu_between_the_convolutions_of_the_fusion() -> None:
    torch.manual_seed(0)
    fusion = FeatureFusion(num_channels=3, num_branches=3, hidden_channels=4, norm="batch")
    branches = [normal(4, 3, 8, 8, seed=seed) for seed in range(3)]
    hidden = fusion.squeeze(sum(branches))  # in training mode: of the batch
    before_relu = fusion.squeeze[:2](sum(branches))
    torch.testing.assert_close(before_relu.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(before_relu.var(dim=(0, 2, 3)), torch.ones(4), atol=0.01, rtol=0)
    assert torch.equal(hidden, before_relu.clamp(min=0))
    logits = torch.stack([conv(hidden) for conv in fusion.branch_logits])
    expected = (torch.softmax(logits, dim=0) * torch.stack(branches)).sum(dim=0)
    torch.testing.assert_close(fusion(branches), expected, atol=1e-5, rtol=1e-4)


def test_the_reference_is_no_part_of_the_weights() -> None:
    attention = ReferenceAttention(num_channels=4, ffm_channels=4)
    before = set(attention.state_dict())
    attention.set_reference(normal(1, 4, 8, 8))
    assert set(attention.state_dict()) == before
    assert all(name.startswith("fusion.") for name in before)
    assert [tuple(repair.values.shape) for repair in attention.repairs] == [(16, 16), (4, 64)]
    assert attention.to(torch.float64).repairs[0].keys.dtype == torch.float64
