"""Every loss against hand-computed values or a plain transcription of its equation."""

import math

import numpy as np
import pytest
import torch

from ndpnet.losses import (
    MIN_MAX_EPS,
    defect_perception_loss,
    feature_repair_loss,
    focal_loss,
    min_max,
    perceptual_loss,
    reconstruction_loss,
    resize_mask,
    segmentation_loss,
)


def random_tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def transcribed_perception(clean: list[np.ndarray], defective: list[np.ndarray], mask: np.ndarray) -> float:
    """Eq. 2, one image and layer at a time."""
    losses = []
    for phi_o, phi_ad in zip(clean, defective, strict=True):
        factor = mask.shape[-1] // phi_o.shape[-1]
        for image in range(len(mask)):
            resized = mask[image, 0].reshape(phi_o.shape[-2], factor, phi_o.shape[-1], factor).max(axis=(1, 3))
            if resized.any():
                distance = np.mean((phi_o[image] - phi_ad[image]) ** 2, axis=0)
                normalised = (distance - distance.min()) / (distance.max() - distance.min() + 1e-6)
                losses.append(np.mean((normalised - resized) ** 2))
    return float(np.mean(losses)) if losses else 0.0


def test_a_single_defective_pixel_survives_every_scale() -> None:
    mask = torch.zeros(1, 1, 32, 32)
    mask[0, 0, 13, 22] = 1
    for size in (32, 16, 8, 4, 2):
        resized = resize_mask(mask, (size, size))
        assert resized.shape == (1, 1, size, size)
        assert resized.sum() == 1
        assert resized[0, 0, 13 * size // 32, 22 * size // 32] == 1


def test_min_max_is_per_image() -> None:
    values = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]], [[[10.0, 10.0], [10.0, 10.0]]]])
    expected = torch.tensor([[[[0, 0.25], [0.5, 1]]], [[[0, 0], [0, 0]]]])
    torch.testing.assert_close(min_max(values), expected, atol=1e-6, rtol=0)
    assert MIN_MAX_EPS == 1e-6


def test_perception_loss_is_eq_2_over_the_pairs_with_a_defect() -> None:
    mask = torch.zeros(3, 1, 8, 8)  # the middle image is defect-free
    mask[0, 0, 2:5, 3:7] = 1
    mask[2, 0, 7, 0] = 1
    clean = [random_tensor(3, channels, size, size, seed=size) for channels, size in ((4, 8), (6, 4), (2, 2))]
    defective = [feats + random_tensor(*feats.shape, seed=99) for feats in clean]
    loss = defect_perception_loss(clean, defective, mask)
    arrays = [[feats.numpy() for feats in features] for features in (clean, defective)]
    assert loss.item() == pytest.approx(transcribed_perception(*arrays, mask.numpy()), rel=1e-5)
    # the defect-free image counts neither above nor below the fraction bar
    kept = torch.tensor([0, 2])
    without = defect_perception_loss([f[kept] for f in clean], [f[kept] for f in defective], mask[kept])
    torch.testing.assert_close(loss, without)


def test_perception_loss_by_hand() -> None:
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    clean = torch.zeros(1, 2, 2, 2)
    defective = torch.zeros(1, 2, 2, 2)
    defective[0, :, 0, 0] = torch.tensor([2.0, 0.0])  # mean of squares 2, the maximum -> 1
    defective[0, :, 1, 1] = torch.tensor([1.0, 1.0])  # 1 -> 0.5
    loss = defect_perception_loss([clean], [defective], mask)
    assert loss.item() == pytest.approx((0.5**2) / 4, rel=1e-5)


def test_channels_are_averaged_before_the_normalisation() -> None:
    # distances as small as the epsilon of N tell a mean from a sum: 1e-6 / (1e-6 + 1e-6)
    mask = torch.tensor([[[[1.0, 0.0]]]])
    defective = torch.zeros(1, 4, 1, 2)
    defective[0, :, 0, 0] = 1e-3
    loss = defect_perception_loss([torch.zeros(1, 4, 1, 2)], [defective], mask)
    assert loss.item() == pytest.approx((0.5 - 1) ** 2 / 2, rel=1e-4)


def test_perception_loss_of_defect_free_images_is_zero_with_a_finite_gradient() -> None:
    defective = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = defect_perception_loss([torch.zeros(2, 3, 4, 4)], [defective], torch.zeros(2, 1, 8, 8))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(defective.grad, torch.zeros_like(defective))


def test_repair_loss_has_the_factor_one_over_l2_minus_l1() -> None:
    clean = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 1, 1)]
    repaired = [torch.full_like(feats, value) for feats, value in zip(clean, (1.0, 2.0, 3.0), strict=True)]
    assert feature_repair_loss(repaired, clean).item() == pytest.approx((1 + 4 + 9) / (5 - 3))


def test_a_relative_repair_loss_does_not_depend_on_the_scale_of_a_layer() -> None:
    clean = [random_tensor(2, 3, 8, 8, seed=seed) for seed in range(3)]
    repaired = [feats + 0.5 for feats in clean]
    expected = sum(0.25 / feats.var().item() for feats in clean) / 2
    assert feature_repair_loss(repaired, clean, is_relative=True).item() == pytest.approx(expected, rel=1e-4)
    larger = [[10 * feats for feats in layers] for layers in (repaired, clean)]
    assert feature_repair_loss(*larger, is_relative=True).item() == pytest.approx(expected, rel=1e-4)
    assert feature_repair_loss(*larger).item() == pytest.approx(100 * 3 * 0.25 / 2, rel=1e-4)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.0, 0.5), (1.5, 0.9)])
def test_focal_loss_is_the_textbook_formula(gamma: float, alpha: float) -> None:
    logits = [-3.0, -0.5, 0.0, 0.7, 4.0]
    target = [0.0, 1.0, 1.0, 0.0, 1.0]
    expected = 0.0
    for logit, truth in zip(logits, target, strict=True):
        p = 1 / (1 + math.exp(-logit))
        p_true, weight = (p, alpha) if truth else (1 - p, 1 - alpha)
        expected -= weight * (1 - p_true) ** gamma * math.log(p_true) / len(logits)
    shape = (1, 1, 1, 5)
    loss = focal_loss(torch.tensor(logits).view(shape), torch.tensor(target).view(shape), gamma=gamma, alpha=alpha)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_stays_finite_where_the_sigmoid_saturates() -> None:
    logits = torch.tensor([[[[-200.0, 200.0, -200.0, 200.0]]]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([[[[0.0, 1.0, 1.0, 0.0]]]]), gamma=2.0, alpha=0.25)
    loss.backward()
    assert loss.item() == pytest.approx((0.25 * 200 + 0.75 * 200) / 4)
    assert torch.isfinite(logits.grad).all()
    halves = focal_loss(torch.full((1, 1, 1, 1), 3.0).bfloat16(), torch.ones(1, 1, 1, 1), gamma=2.0, alpha=0.25)
    assert halves.dtype == torch.float32


def test_segmentation_loss_is_a_third_of_the_sum_over_scales() -> None:
    mask = torch.zeros(2, 1, 8, 8)
    mask[0, 0, 1, 6] = 1
    logits = [random_tensor(2, 1, size, size, seed=size) for size in (8, 4, 2)]
    at_half, at_quarter = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 2, 2)
    at_half[0, 0, 0, 3] = at_quarter[0, 0, 0, 1] = 1
    terms = [
        focal_loss(each, truth, gamma=2.0, alpha=0.25).item()
        for each, truth in zip(logits, (mask, at_half, at_quarter), strict=True)
    ]
    assert segmentation_loss(logits, mask, gamma=2.0, alpha=0.25).item() == pytest.approx(sum(terms) / 3)


def test_pixel_and_perceptual_losses_are_means() -> None:
    assert reconstruction_loss(torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 0.2)).item() == pytest.approx(
        0.09
    )
    maps = [torch.zeros(2, 3, size, size) for size in (8, 8, 4, 4, 2)]
    targets = [torch.full_like(each, value) for each, value in zip(maps, (1.0, -2.0, 3.0, -4.0, 5.0), strict=True)]
    assert perceptual_loss(maps, targets).item() == pytest.approx(3.0)
