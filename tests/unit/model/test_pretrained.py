"""The bank of good patches, the joint segmentation, and the network behind a frozen encoder."""

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import normal

from ndpnet.model.patch_bank import PatchBank, largest, repair_by_itself, surprise
from ndpnet.model.pretrained import PretrainedNDPNet, _full_size, _half_closed, _with_around
from ndpnet.training.pretrained import fit_bank, fit_scales, group_numbers

SIZE = 64


def surface(count: int, seed: int = 0) -> np.ndarray:
    """Noisy stripes, their colours hardly so. -> uint8 (count, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    stripes = 128 + 40 * np.sin((rows + columns) / 4)[None, :, :, None]
    noise = rng.normal(0, 8, (count, SIZE, SIZE, 1)) + rng.normal(0, 1, (count, SIZE, SIZE, 3))
    return (stripes + noise).clip(0, 255).astype(np.uint8)


def to_batch(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


@cache
def fitted(anomaly_map: str, encoder: str) -> PretrainedNDPNet:
    torch.manual_seed(0)
    network = PretrainedNDPNet(encoder=encoder, bank_size=128, head_channels=8, anomaly_map=anomaly_map)
    fit_bank(network, surface(4), ["a", "a", "b", "c"], seed=0)
    fit_scales(network, surface(3, seed=1), surface(4), ["a", "a", "b", "c"])
    return network.eval()


def make_network(anomaly_map: str = "fused", encoder: str = "tf_efficientnet_lite0") -> PretrainedNDPNet:
    """A copy, to change."""
    return deepcopy(fitted(anomaly_map, encoder))


def bank_of(patches: torch.Tensor, groups: torch.Tensor | None = None) -> PatchBank:
    bank = PatchBank(num_channels=patches.shape[1], num_patches=len(patches))
    bank.patches.copy_(patches)
    if groups is not None:
        bank.groups.copy_(groups)
    return bank


@pytest.mark.parametrize("count", [64, 192, 1024])
def test_the_largest_product_is_found_in_a_graph_too(count: int) -> None:
    scores = normal(2, 30, count)
    scores[0, 0, [count // 2, count - 1]] = 9.0  # of equals the first
    graph = torch.export.export(Largest(), (scores,)).module()
    for find in (largest, graph):
        assert find(scores).tolist() == scores.argmax(dim=-1).tolist()


class Largest(torch.nn.Module):
    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        return largest(scores)


def test_the_map_is_enlarged_bilinearly() -> None:
    plane = torch.randn(2, 1, 16, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_full_size(plane), F.interpolate(plane, scale_factor=4, mode="bilinear"))


def test_a_gap_between_marks_is_half_filled_and_nothing_grows() -> None:
    plane = torch.zeros(1, 1, 16, 24)
    plane[..., 4:9, 10:15] = 6.0
    plane[..., 6, 12] = 2.0  # a gap
    plane[..., 0, 0] = plane[..., 15, 19] = 6.0  # at the rim, and alone
    expected = plane.clone()
    expected[..., 6, 12] = 4.0
    assert torch.equal(_half_closed(plane), expected)


def test_what_lies_within_a_wide_stain_is_raised_and_what_lies_beside_a_crack_hardly() -> None:
    stain = torch.zeros(1, 1, 64, 64)
    stain[..., 16:48, 16:48] = 9.0
    stain[..., 28:36, 28:36] = 0.5  # its middle looks good
    raised = _with_around(stain)
    assert (raised >= stain).all()
    assert raised[..., 28:36, 28:36].min() > 1.5
    assert raised.amax(dim=(2, 3)) == 9
    crack = torch.zeros(1, 1, 64, 64)
    crack[..., 32, :] = 1000.0
    assert _with_around(crack)[..., 31, :].max() < 0.25


def test_every_position_becomes_its_nearest_patch() -> None:
    patches, feats = normal(192, 5), normal(2, 5, 3, 4, seed=1)
    repaired = bank_of(patches)(feats)
    queries = feats.permute(0, 2, 3, 1).reshape(-1, 5)
    expected = patches[torch.cdist(queries, patches).argmin(dim=1)]
    torch.testing.assert_close(repaired.permute(0, 2, 3, 1).reshape(-1, 5), expected)
    on_the_bank = patches[:12].T.reshape(1, 5, 3, 4)
    torch.testing.assert_close(bank_of(patches)(on_the_bank), on_the_bank)
    frozen = bank_of(patches)
    frozen.freeze()
    assert torch.equal(frozen(feats), repaired)


def test_a_picture_of_the_training_is_not_repaired_by_its_own_group() -> None:
    patches, groups = normal(128, 5), torch.arange(128) % 2
    feats = patches[:12].T.reshape(1, 5, 3, 4).expand(2, -1, -1, -1)  # patches of both groups
    repaired = bank_of(patches, groups)(feats, torch.tensor([0, 1])).flatten(2)
    is_itself = (repaired - feats.flatten(2)).abs().amax(dim=1) < 1e-6
    assert is_itself.tolist() == [[False, True] * 6, [True, False] * 6]
    alone = bank_of(patches, torch.zeros(128))(feats, torch.zeros(2))  # no other group: all of it, rather than none
    torch.testing.assert_close(alone, feats)


def test_surprise_is_relative_to_the_strength_of_the_features() -> None:
    feats = torch.zeros(1, 4, 1, 2)
    feats[0, 0] = torch.tensor([[0.0, 6.0]])
    repaired = feats + torch.tensor([2.0, 0, 0, 0])[None, :, None, None]
    torch.testing.assert_close(surprise(feats, repaired)[0, 0, 0], torch.tensor([4 / 4, 4 / 40]).sqrt())
    assert surprise(feats, feats).max() == 0


def test_a_place_is_repaired_by_a_nearer_one_of_its_picture_that_is_like_the_bank_and_not_beside_it() -> None:
    feats, repaired = normal(2, 5, 8, 16), normal(2, 5, 8, 16, seed=1)
    expected, usual = repaired.clone(), surprise(feats, repaired).flatten().kthvalue(2 * 8 * 16 // 12).values
    for picture, (own, known) in enumerate(zip(feats, repaired, strict=True)):
        gaps = surprise(own[None], known[None])[0, 0]
        most_alike = gaps.flatten().argsort()[: 8 * 16 // 8]
        alike = [divmod(index, 16) for index in most_alike.tolist() if gaps.flatten()[index] <= usual]
        for row, column in np.ndindex(8, 16):
            place = own[:, row, column]
            apart = [at for at in alike if max(abs(at[0] - row), abs(at[1] - column)) >= 4]
            nearest = min((own[:, *at] for at in apart), key=lambda key, place=place: (place - key).norm())
            if (place - nearest).norm() < (place - known[:, row, column]).norm():
                expected[picture, :, row, column] = nearest
    assert 0.2 < (expected != repaired).float().mean() < 1
    torch.testing.assert_close(repair_by_itself(feats, repaired, usual), expected)
    assert torch.equal(repair_by_itself(feats, repaired, torch.tensor(0.0)), repaired)  # none is like the bank
    small = normal(1, 5, 3, 3)  # all are beside each other
    assert torch.equal(repair_by_itself(small, small + 1, torch.tensor(9.0)), small + 1)


@torch.no_grad()
def test_a_picture_repairs_itself_only_if_it_is_like_held_out_good_ones() -> None:
    network = make_network("distance")

    def gaps(picture: torch.Tensor) -> torch.Tensor:
        features = network.encoder(picture)
        pairs = zip(network.repairable(features), network.repair(features), strict=True)
        return torch.stack([surprise(*pair).mean() for pair in pairs])

    held_out, enlarged = (to_batch(surface(3, seed=1)), F.interpolate(to_batch(surface(2, seed=7)), scale_factor=2))
    by_both, usual = gaps(enlarged), network.usual.clone()
    network.train()
    by_bank = gaps(enlarged)
    features = network.encoder(held_out)
    for level, limit in enumerate(usual):
        known = surprise(network.repairable(features)[level], network.repair(features)[level])
        assert 0.98 < (known <= limit).float().mean() <= 0.995
    network.eval().usual.fill_(9)
    by_itself = gaps(enlarged)
    assert (by_itself[:2] < 0.95 * by_bank[:2]).all()
    assert (by_both[:2] > 0.99 * by_bank[:2]).all()
    assert by_itself[2] == by_bank[2]


def test_the_coarsest_level_is_compared_by_its_cosine_before_it_was_standardised() -> None:
    network, image = make_network(), to_batch(surface(1, seed=3))
    with torch.no_grad():
        features = network.encoder(image)
        repaired = network.repair(features)
    spread, mean = network.encoder.spread2[:, None], network.encoder.mean2[:, None]
    raw, keys = (
        features[-1][0].flatten(1) * spread + mean,
        network.banks[2].patches.T * spread + mean,
    )  # (C, h*w), (C, R)
    cosines = F.cosine_similarity(raw[:, :, None], keys[:, None], dim=0)
    torch.testing.assert_close(repaired[2][0].flatten(1), network.banks[2].patches.T[:, cosines.argmax(dim=1)])
    angle = network.angle(features, repaired)[0, 0, ::4, ::4]
    last = ((features[-1] * spread[..., None] + mean[..., None]) * 3 - mean[..., None]) / spread[..., None]
    brighter = [*features[:-1], last]
    torch.testing.assert_close(network.angle(brighter, repaired)[0, 0, ::4, ::4], angle, rtol=1e-3, atol=1e-4)
    assert network.angle(features, network.repairable(features)).max() == 0


@pytest.mark.parametrize("anomaly_map", ["segmentation", "distance", "fused"])
@pytest.mark.parametrize(
    ("encoder", "width"),
    [
        ("tf_efficientnet_lite0", 64),
        ("tf_efficientnet_lite0", 128),
        ("resnet18", 64),
        ("vit_tiny_patch16_224", 64),
    ],
)
def test_a_map_and_a_reconstruction_have_the_size_of_the_image(anomaly_map: str, encoder: str, width: int) -> None:
    network, image = make_network(anomaly_map, encoder), torch.rand(2, 3, SIZE, width)
    with torch.no_grad():
        anomaly_maps, reconstruction = network.predict(image)
    assert anomaly_maps.shape == (2, 1, SIZE, width)
    assert reconstruction.shape == image.shape
    assert anomaly_maps.min() > 0
    assert anomaly_maps.max() < 1
    assert reconstruction.min() >= 0
    assert reconstruction.max() <= 1


def test_one_half_is_the_highest_value_of_held_out_good_pictures() -> None:
    network = make_network()
    with torch.no_grad():
        highest = network.predict(to_batch(surface(3, seed=1)))[0].amax()
        network.good_maximum.fill_(1e-3)  # far beyond: no saturation
        beyond = network.predict(to_batch(surface(3, seed=1)))[0].flatten()
    assert highest.item() == pytest.approx(0.5, abs=1e-5)
    assert len(beyond.unique()) > 0.5 * len(beyond)


def test_scales_without_held_out_pictures_leave_out_each_picture_s_own_patches() -> None:
    network = make_network()
    fit_scales(network, surface(0), surface(4), ["a", "a", "b", "c"])
    spreads = network.level_spreads.clone()
    network.fit_scales([(to_batch(surface(4)), None)])  # each finds some of its own patches again
    assert (spreads != network.level_spreads).all()


def test_scales_go_by_pictures_spread_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ndpnet.training.pretrained.MAX_FITTED", 3)
    network, held_out, maxima = make_network(), surface(5, seed=1), []
    for pictures in (held_out, held_out[::2]):
        fit_scales(network, pictures, surface(4), ["a", "a", "b", "c"])
        maxima.append(network.good_maximum.item())
    assert maxima[0] == maxima[1]


def test_a_stain_is_another_colour_and_grey_pictures_have_none() -> None:
    network, brown = make_network("distance"), surface(2, seed=7)
    stained = brown.copy()
    stained[:, 24:48, 24:48, 0] -= 20  # less red, hardly darker
    with torch.no_grad():
        plain, stain = (network.colour(to_batch(each))[:, 0] for each in (brown, stained))
        assert (stain[:, 8:10, 8:10] > plain.amax()).all()
        grey = np.repeat(brown.mean(axis=3, keepdims=True).astype(np.uint8), 3, axis=3)
        fit_bank(network, grey, ["a", "b"], seed=0)
        fit_scales(network, grey, grey, ["a", "b"])
        assert network.colour(to_batch(stained)).amax() == 0


@torch.no_grad()
def test_a_small_black_hole_is_a_shade_of_its_own_in_whatever_light() -> None:
    network, picture = make_network("distance"), surface(1, seed=7)
    holed = picture.copy()
    holed[:, 32:40, 32:40] = 0
    pictures = to_batch(picture), to_batch(holed), 0.8 * to_batch(holed)
    plain, hole, darker = (network.shade(image) for image in pictures)
    assert hole[0, 0, 8:10, 8:10].min() > 2 * plain.amax()
    torch.testing.assert_close(darker, hole, atol=1e-3, rtol=0)


@torch.no_grad()
def test_shades_are_of_the_picture_under_even_light_where_light_differs() -> None:
    network = make_network("distance")
    slope = (0.4 * torch.linspace(0.5, 1.5, 256)).expand(1, 3, 256, 256)
    as_it_is = network.shades(slope).std()
    network.encoder.has_uneven_light = True
    assert network.shades(slope).std() < as_it_is / 2


def test_another_tint_is_no_defect_where_tints_vary() -> None:
    tints = np.random.default_rng(0).integers(-20, 20, (9, 1, 1, 3))
    network = PretrainedNDPNet(encoder="tf_efficientnet_lite0", bank_size=64, head_channels=8)

    def excess_of_another(pictures: np.ndarray) -> torch.Tensor:
        fit_bank(network, pictures[:8], list("abcdefgh"), seed=0)
        fit_scales(network, pictures[:1], pictures[:8], list("abcdefgh"))
        with torch.no_grad():
            mean, spread = network.colour_scale
            return ((network.colour(to_batch(surface(1, seed=8) + tints[8])) - mean) / spread).mean()

    tinted = (surface(9).astype(int) + tints).clip(0, 255).astype(np.uint8)
    assert excess_of_another(tinted) < 3
    assert excess_of_another(surface(9)) > 30


@torch.no_grad()
@pytest.mark.parametrize(("name", "largest"), [("colour", 5), ("brightness", 5), ("shade", 3)])
def test_however_odd_a_tone_is_it_counts_as_so_many_spreads(
    monkeypatch: pytest.MonkeyPatch, name: str, largest: int
) -> None:
    network, picture = make_network("distance"), to_batch(surface(1, seed=9))
    mean, spread = getattr(network, f"{name}_scale")

    def tone(times: float) -> torch.Tensor:
        monkeypatch.setattr(network, name, lambda *_: mean + times * spread * torch.ones(1, 1, 16, 16))
        return network.tone(picture)

    torch.testing.assert_close(tone(largest), tone(500))
    torch.testing.assert_close(tone(largest) - tone(0), torch.full((1, 1, 16, 16), float(largest)))


def test_what_is_good_but_rare_is_in_the_bank() -> None:
    pictures = surface(12)
    pictures[5, :32, :32] = 255  # one bright corner: 16 of 768 positions
    network = PretrainedNDPNet(encoder="tf_efficientnet_lite0", bank_size=64, head_channels=8)
    fit_bank(network, pictures, list("abcdefghijkl"), seed=0)
    with torch.no_grad():
        levels = network.repairable(network.encoder(to_batch(pictures[5:6])))
        repaired = network.repair(network.encoder(to_batch(pictures[5:6])))
    for level, (feats, clean) in enumerate(zip(levels[:2], repaired[:2], strict=True)):  # the third has 16 positions
        side = feats.shape[-1] // 4  # well inside the corner
        gap = surprise(feats, clean)[0, 0]
        assert gap[:side, :side].mean() < 2 * gap[2 * side :, 2 * side :].mean(), f"level {level}"


def test_pictures_of_one_group_are_told_apart() -> None:
    assert group_numbers(["x", "y", "x"]).tolist() == [0, 1, 0]
    assert group_numbers(["x", "x", "x"]).tolist() == [0, 1, 2]
