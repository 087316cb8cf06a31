"""The losses against hand-computed values; tests of a whole step compare them with a plain transcription."""

import pytest
import torch
from networks import normal

from ndpnet.losses import defect_perception_loss, feature_repair_loss, focal_loss


def test_perception_loss_of_defect_free_images_is_zero_with_a_finite_gradient() -> None:
    defective = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = defect_perception_loss([torch.zeros(2, 3, 4, 4)], [defective], torch.zeros(2, 1, 8, 8))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(defective.grad, torch.zeros_like(defective))


def test_a_relative_repair_loss_does_not_depend_on_the_scale_of_a_layer() -> None:
    clean = [normal(2, 3, 8, 8, seed=seed) for seed in range(3)]
    repaired = [feats + 0.5 for feats in clean]
    expected = sum(0.25 / feats.var().item() for feats in clean) / 2
    assert feature_repair_loss(repaired, clean, is_relative=True).item() == pytest.approx(expected, rel=1e-4)
    larger = [[10 * feats for feats in layers] for layers in (repaired, clean)]
    assert feature_repair_loss(*larger, is_relative=True).item() == pytest.approx(expected, rel=1e-4)
    assert feature_repair_loss(*larger).item() == pytest.approx(100 * 3 * 0.25 / 2, rel=1e-4)


def test_focal_loss_stays_finite_where_the_sigmoid_saturates() -> None:
    logits = torch.tensor([[[[-200.0, 200.0, -200.0, 200.0]]]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[[[0.0, 1.0, 1.0, 0.0]]]]), gamma=2.0, alpha=0.25)
    loss.backward()
    assert loss.item() == pytest.approx((0.25 * 200 + 0.75 * 200) / 4)
    assert torch.isfinite(logits.grad).all()
    halves = focal_loss(torch.full((1, 1, 1, 1), 3.0).bfloat16(), torch.ones(1, 1, 1, 1), gamma=2.0, alpha=0.25)
    assert halves.dtype == torch.float32
