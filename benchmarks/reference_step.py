"""NDP-Net and one training step of each phase, transcribed from the paper's equations as they are written.

What `training_step.py` and the tests compare the library with: textbook PyTorch that encodes an image wherever an
equation names its features, saves nothing between two steps and takes PyTorch's defaults everywhere. Parameters have
the library's names, so that both start from the same weights. It shares no code with `ndpnet`.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

MIN_MAX_EPS = 1e-6
PATCH_SIZES = (2, 4)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VGG_CHANNELS = (3, 64, 64, 128, 128, 256)
POOL_BEFORE = (2, 4)  # indices of the convolutions of VGG that follow a pooling

Features = list[torch.Tensor]
Terms = dict[str, torch.Tensor]


def block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two conv3x3-BN-ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def up(feats: torch.Tensor) -> torch.Tensor:
    """Bilinear, twice the size."""
    return F.interpolate(feats, scale_factor=2, mode="bilinear", align_corners=False)


class Encoder(nn.Module):
    """Five layers, the first at full resolution, each next one halved."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(block(before, after) for before, after in zip([3, *channels], channels))  # noqa: B905

    def forward(self, image: torch.Tensor) -> Features:
        """(B, 3, H, W) -> five maps (B, C_l, H/2^(l-1), W/2^(l-1))."""
        features = [self.layers[0](image)]
        for layer in self.layers[1:]:
            features.append(layer(F.max_pool2d(features[-1], 2)))
        return features


class Decoder(nn.Module):
    """Image from layers 3, 4 and 5."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = channels
        self.block4, self.block3 = block(c5 + c4, c4), block(c4 + c3, c3)
        self.block2, self.block1 = block(c3, c2), block(c2, c1)
        self.to_image = nn.Conv2d(c1, 3, 3, padding=1)

    def forward(self, features: Features) -> torch.Tensor:
        """Layers 3-5 -> (B, 3, H, W)."""
        feats3, feats4, feats5 = features
        x = self.block4(torch.cat([up(feats5), feats4], dim=1))
        x = self.block3(torch.cat([up(x), feats3], dim=1))
        return torch.sigmoid(self.to_image(self.block1(up(self.block2(up(x))))))


class Fusion(nn.Module):
    """FFM (Eq. 6-8)."""

    def __init__(self, num_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(num_channels, hidden_channels, 5, padding=2)
        num_branches = 1 + len(PATCH_SIZES)
        self.branch_logits = nn.ModuleList(
            nn.Conv2d(hidden_channels, num_channels, 5, padding=2) for _ in range(num_branches)
        )

    def forward(self, branches: Features) -> torch.Tensor:
        """F, F_rep2, F_rep4 -> F_out, all (B, C, h, w)."""
        hidden = self.squeeze(sum(branches))
        weights = torch.softmax(torch.stack([logits(hidden) for logits in self.branch_logits]), dim=0)
        return sum(weight * branch for weight, branch in zip(weights, branches, strict=True))


class Attention(nn.Module):
    """RBAM: RBFRM for every patch size (Eq. 3-5), then FFM."""

    def __init__(self, num_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.fusion = Fusion(num_channels, hidden_channels)

    def forward(self, feats: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w), (1, C, h, w) -> (B, C, h, w)."""
        return self.fusion([feats, *(repair(feats, reference, size) for size in PATCH_SIZES)])


def repair(feats: torch.Tensor, reference: torch.Tensor, patch_size: int) -> torch.Tensor:
    """RBFRM (Eq. 3-5). (B, C, h, w), (1, C, h, w) -> (B, C, h, w)."""
    patches = F.unfold(feats, patch_size, stride=patch_size).transpose(1, 2)  # (B, N, C*K*K)
    reference_patches = F.unfold(reference, patch_size, stride=patch_size).transpose(1, 2)
    cosine = F.normalize(patches, dim=2) @ F.normalize(reference_patches, dim=2).transpose(1, 2)
    repaired = torch.softmax(cosine, dim=2) @ reference_patches
    return F.fold(repaired.transpose(1, 2), feats.shape[2:], patch_size, stride=patch_size)


class Segmentation(nn.Module):
    """MSDSM's heads."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Sequential(block(2 * each, each), nn.Conv2d(each, 1, 1)) for each in channels)

    def forward(self, features: Features, rebuilt: Features) -> Features:
        """Logits of AM_1..AM_3 from the features of input and reconstruction."""
        return [head(torch.cat(pair, dim=1)) for head, *pair in zip(self.heads, features, rebuilt)]  # noqa: B905


class PlainNetwork(nn.Module):
    """The parts, under the names of the library's parameters."""

    def __init__(self, base_width: int, ffm_channels: int) -> None:
        super().__init__()
        channels = [base_width * factor for factor in (1, 2, 4, 8, 8)]
        self.encoder, self.decoder = Encoder(channels), Decoder(channels)
        self.attention = nn.ModuleList(Attention(each, ffm_channels) for each in channels[2:])
        self.segmentation = Segmentation(channels[:3])


class PlainVGG(nn.Module):
    """relu1_1 to relu3_1 of VGG-16."""

    def __init__(self) -> None:
        super().__init__()
        pairs = itertools.pairwise(VGG_CHANNELS)
        self.convolutions = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairs)

    def forward(self, image: torch.Tensor) -> Features:
        """(B, 3, H, W) in [0, 1] -> five maps."""
        mean, std = (image.new_tensor(each).view(1, 3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
        feats, maps = (image - mean) / std, []
        for index, convolution in enumerate(self.convolutions):
            feats = F.max_pool2d(feats, 2) if index in POOL_BEFORE else feats
            feats = F.relu(convolution(feats))
            maps.append(feats)
        return maps


def phase1_terms(network: PlainNetwork, vgg: PlainVGG | None, clean: torch.Tensor, *defective: torch.Tensor) -> Terms:
    """Eq. 12-14 with the weights 100, 1, 1. clean, then the defective image and its mask."""
    defective_image, mask = defective
    both = network.encoder(torch.cat([clean, defective_image]))  # one pass: BatchNorm sees one batch
    features, defective_features = [each.chunk(2)[0] for each in both], [each.chunk(2)[1] for each in both]
    reconstruction = network.decoder(features[2:])
    terms = {
        "reconstruction": F.mse_loss(reconstruction, clean),
        "defect_perception": perception_loss(features, defective_features, mask),
    }
    return weighted(terms, vgg, reconstruction, clean)


def phase2_terms(
    network: PlainNetwork,
    vgg: PlainVGG | None,
    clean: torch.Tensor,
    defective: torch.Tensor,
    mask: torch.Tensor,
    *,
    reference: torch.Tensor,
    gamma: float,
    alpha: float,
) -> Terms:
    """Eq. 15-17 with the weights 100, 1, 1, 1, behind a frozen encoder in eval mode. reference: (1, 3, H, W)."""
    encoder = network.encoder
    reference_features = encoder(reference)
    features = encoder(defective)
    triples = zip(network.attention, features[2:], reference_features[2:], strict=True)
    repaired = [attention(feats, reference_feats) for attention, feats, reference_feats in triples]
    reconstruction = network.decoder(repaired)
    logits = network.segmentation(encoder(defective), encoder(reconstruction))
    pairs = zip(repaired, encoder(clean)[2:], strict=True)
    focal = [focal_loss(each, F.adaptive_max_pool2d(mask, each.shape[2:]), gamma, alpha) for each in logits]
    terms = {
        "reconstruction": F.mse_loss(reconstruction, clean),
        "feature_repair": sum(F.mse_loss(out, feats) for out, feats in pairs) / 2,
        "segmentation": sum(focal) / 3,
    }
    return weighted(terms, vgg, reconstruction, clean)


def weighted(terms: Terms, vgg: PlainVGG | None, reconstruction: torch.Tensor, clean: torch.Tensor) -> Terms:
    """Add the perceptual loss (Eq. 13, 16), where there is a VGG, and the sum of all."""
    if vgg is not None:
        pairs = zip(vgg(reconstruction), vgg(clean), strict=True)
        terms["perceptual"] = sum(F.l1_loss(rebuilt, target) for rebuilt, target in pairs) / 5
    return {"loss": 99 * terms["reconstruction"] + sum(terms.values())} | terms


def perception_loss(features: Features, defective_features: Features, mask: torch.Tensor) -> torch.Tensor:
    """Eq. 2: over every layer, and every image that has a defect."""
    losses = []
    for feats, defective_feats in zip(features, defective_features, strict=True):
        distances = ((feats - defective_feats) ** 2).mean(dim=1)  # (B, h, w)
        targets = F.adaptive_max_pool2d(mask, distances.shape[1:])[:, 0]
        for distance, target in zip(distances, targets, strict=True):
            if target.max() == 0:
                continue
            spread = (distance - distance.min()) / (distance.max() - distance.min() + MIN_MAX_EPS)
            losses.append(((spread - target) ** 2).mean())
    return torch.stack(losses).mean() if losses else mask.new_zeros(())


def focal_loss(logits: torch.Tensor, target: torch.Tensor, gamma: float, alpha: float) -> torch.Tensor:
    """Eq. 10, mean. logits, target: (B, 1, h, w)."""
    log_likelihood = target * F.logsigmoid(logits) + (1 - target) * F.logsigmoid(-logits)
    missed = 1 - log_likelihood.exp()
    return (-(target * alpha + (1 - target) * (1 - alpha)) * missed**gamma * log_likelihood).mean()
