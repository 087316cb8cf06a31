"""Repair from reference patches against a plain transcription, at its limits and in half precision."""

import pytest
import torch
import torch.nn.functional as F
from networks import normal

from ndpnet.model.attention import ReferenceRepair, from_patches, to_patches


def transcribed_repair(feats: torch.Tensor, references: torch.Tensor, size: int, scale: float) -> torch.Tensor:
    """Eq. 3-5. feats: (B, C, H, W), references: (R, C, h, w)."""
    patches = F.unfold(feats, size, stride=size).transpose(1, 2)  # (B, N, C*K*K)
    known = F.unfold(references, size, stride=size).transpose(1, 2).flatten(0, 1)  # (R*M, C*K*K)
    cosines = F.normalize(patches, dim=2) @ F.normalize(known, dim=1).T
    repaired = torch.softmax(scale * cosines, dim=2) @ known
    return F.fold(repaired.transpose(1, 2), feats.shape[2:], size, stride=size)


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(("scale", "num_references"), [(1.0, 1), (10.0, 1), (3.0, 2)])
def test_repair_is_eq_3_to_5(size: int, scale: float, num_references: int) -> None:
    repair = ReferenceRepair(patch_size=size, softmax_scale=scale)
    feats = normal(2, 3, 8, 4)
    references = normal(num_references, 3, 4, 12, seed=1)  # another size than the input
    repair.set_reference(references)
    expected = transcribed_repair(feats.double(), references.double(), size, scale)
    torch.testing.assert_close(repair(feats).double(), expected, atol=1e-5, rtol=0)


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
        low = repair(feats)
    assert low.dtype == torch.float32
    assert torch.equal(low, repair(feats))
