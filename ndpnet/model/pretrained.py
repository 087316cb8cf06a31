"""NDP-Net behind a frozen ImageNet encoder: reference attention over a bank of good patches, one joint segmentation."""

from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F
from torch import nn

from ndpnet.model.backbone import NUM_LEVELS, Backbone, local_brightness
from ndpnet.model.colours import OpponentColours, relative_colours
from ndpnet.model.decoder import upsample
from ndpnet.model.layers import conv_block
from ndpnet.model.network import NetworkOutput
from ndpnet.model.patch_bank import PatchBank, repair_by_itself, surprise

MAP_STRIDE = 4  # of the map, and of what the decoder computes, before they are enlarged
DISTANCE_WEIGHT = 0.25  # of each distance beside the segmentation
GAP = 7  # places of the map: between marks that lie in one window of so many, the map is closed
AROUND = 15  # places of the map, twice: what is around a place, some 60 pixels
MOST_AROUND = 3.0  # spreads that a place counts for those around it, however high it is: a crack is no wide stain
NUM_COLOURS, NUM_SHADES = 1024, 256  # in their banks
# spreads that count at most: another light may be any number of them away and alarms nobody, a speck of dirt hardly
LARGEST_COLOUR = LARGEST_BRIGHTNESS = 5.0
LARGEST_SHADE = 3.0
DECODER_CHANNELS = (64, 32)
SMALLEST_SPREAD = 1e-6
SMALLEST_SHADE = 0.01  # spread of shades, in mean brightnesses: where good ones lie closer, less is chance
USUAL_SHARE = 0.99  # of the places of held-out good pictures: what they are like is like the bank


class PretrainedNDPNet(nn.Module):
    """The method with an encoder that is not trained. A package has all of it, the bank and the scales of the maps.

    anomaly_map: what `predict` answers: segmentation (the joint one), distance (to the bank) or fused (both).
    is_trained: a package's weights follow.
    """

    def __init__(
        self, *, encoder: str, bank_size: int, head_channels: int, anomaly_map: str = "fused", is_trained: bool = False
    ) -> None:
        super().__init__()
        self.anomaly_map = anomaly_map
        self.encoder = Backbone(encoder, is_trained=is_trained)
        channels, seen = self.encoder.channels, (None, None, self.encoder.directions)
        self.banks = nn.ModuleList(
            PatchBank(num_channels=width, num_patches=bank_size, seen=how)
            for width, how in zip(channels, seen, strict=True)
        )
        self.colours = OpponentColours()
        self.colour_bank = PatchBank(num_channels=2, num_patches=NUM_COLOURS)
        self.shade_bank = PatchBank(num_channels=3, num_patches=NUM_SHADES)
        self.decoder = SurfaceDecoder(channels, self.encoder.strides)
        self.segmentation = JointSegmentation(channels, head_channels)
        # the maps of held-out good pictures: mean and spread of the segmentation's logit, and of each distance
        self.logit_scale = nn.Buffer(torch.tensor([0.0, 1.0]))
        self.level_spreads = nn.Buffer(torch.ones(NUM_LEVELS))
        self.usual = nn.Buffer(torch.zeros(NUM_LEVELS - 1))  # surprise, of all levels but the coarsest
        self.distance_scale = nn.Buffer(torch.tensor([0.0, 1.0]))
        self.angle_scale = nn.Buffer(torch.tensor([0.0, 1.0]))
        self.colour_scale = nn.Buffer(torch.tensor([0.0, 1.0]))
        self.brightness_scale = nn.Buffer(torch.tensor([0.0, 1.0]))
        self.shade_scale = nn.Buffer(torch.tensor([0.0, 1.0]))
        self.good_maximum = nn.Buffer(torch.tensor(1.0))
        # in training alone
        self.picture_groups: torch.Tensor = nn.Buffer(torch.empty(0, dtype=torch.long), persistent=False)

    def set_reference(self, reference: torch.Tensor) -> None:
        """Nothing: the bank is in the weights. reference: (R, 3, H, W), a good picture to show."""

    def repairable(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What is compared with the bank, and repaired. features: the encoder's -> 3 maps."""
        return list(features[NUM_LEVELS:])

    def rebuild(self, features: Sequence[torch.Tensor]) -> torch.Tensor:
        """Phase 1's reconstruction: the decoder on untouched features. -> (B, 3, H, W)."""
        return self.decoder(self.repairable(features))

    def forward(self, image: torch.Tensor, features: Sequence[torch.Tensor] | None = None) -> NetworkOutput:
        """All of one pass. image: (B, 3, H, W), sides multiples of 64; `features`: its encoding, if known."""
        features = self.encoder(image) if features is None else features
        repaired = self.repair(features)
        return NetworkOutput(repaired, self.decoder(repaired), [self.logit(features, repaired)])

    def repair(self, features: Sequence[torch.Tensor], groups: torch.Tensor | None = None) -> list[torch.Tensor]:
        """What the bank has in the place of each level (Eq. 3-5). `groups` (B,): as of `PatchBank`. -> as `repairable`.

        Of the coarsest the patch with the largest cosine (Eq. 4), of the others the nearest one, which may be of the
        picture itself. While training the bank's alone: maps become no better by the others, and steps slower.
        """
        levels = self.repairable(features)
        repaired = self._repair_by_bank(levels, groups)
        return repaired if self.training else self._repair_by_itself(levels, repaired)

    def _repair_by_bank(self, levels: Sequence[torch.Tensor], groups: torch.Tensor | None) -> list[torch.Tensor]:
        return [bank(feats, groups) for bank, feats in zip(self.banks, levels, strict=True)]

    def _repair_by_itself(self, levels: Sequence[torch.Tensor], repaired: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        return [*map(repair_by_itself, levels[:-1], repaired[:-1], self.usual), repaired[-1]]

    def predict(self, image: torch.Tensor, *, has_filters: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Anomaly map in (0, 1), enlarged from stride 4 instead of filtered, and reconstruction.

        (B, 3, H, W), sides multiples of 64 -> (B, 1, H, W), (B, 3, H, W).
        """
        anomaly_map, repaired = self._mark(image)
        return anomaly_map, self.decoder(repaired)

    def mark(self, image: torch.Tensor, *, has_filters: bool = True) -> torch.Tensor:
        """The map of `predict` without the decoder's time. (B, 3, H, W) -> (B, 1, H, W)."""
        return self._mark(image)[0]

    def _mark(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Anomaly map, and the levels that the decoder rebuilds the surface from."""
        features = self.encoder(image)
        repaired = self.repair(features)
        ratio = self.excess(features, repaired, self.tone(image)) / self.good_maximum - 1
        # to (0, 1) with 0.5 at the highest value of held-out good pictures; unlike a sigmoid it never saturates
        return 0.5 + 0.5 * ratio / (1 + ratio.abs()), repaired

    def excess(
        self, features: Sequence[torch.Tensor], repaired: Sequence[torch.Tensor], tone: torch.Tensor
    ) -> torch.Tensor:
        """The map in spreads of good pictures, enlarged; `tone`: as of `tone`. -> (B, 1, H, W)."""
        terms = []
        if self.anomaly_map != "distance":
            # however sure the segmentation is of good surface, the distances are heard
            terms.append(_scaled(self.logit(features, repaired), self.logit_scale).clamp(min=0))
        if self.anomaly_map != "segmentation":
            terms.append(DISTANCE_WEIGHT * _scaled(self.distance(features, repaired), self.distance_scale))
            terms.append(DISTANCE_WEIGHT * _scaled(self.angle(features, repaired), self.angle_scale))
            terms.append(DISTANCE_WEIGHT * tone)
        return _full_size(_with_around(_half_closed(sum(terms[1:], terms[0]))))

    def logit(self, features: Sequence[torch.Tensor], repaired: Sequence[torch.Tensor]) -> torch.Tensor:
        """Of the joint segmentation. features: the encoder's, repaired: as `repairable` -> (B, 1, H/4, W/4)."""
        levels = self.repairable(features)
        return self.segmentation(features[:NUM_LEVELS], levels, repaired, self._map_size(levels))

    def distance(self, features: Sequence[torch.Tensor], repaired: Sequence[torch.Tensor]) -> torch.Tensor:
        """Sum over levels of the relative distance to the bank, each in its spread. -> (B, 1, H/4, W/4)."""
        levels = self.repairable(features)
        maps = [enlarge(surprise(*pair), self._map_size(levels)) for pair in zip(levels, repaired, strict=True)]
        scaled = [distance / spread for distance, spread in zip(maps, self.level_spreads, strict=True)]
        return sum(scaled[1:], scaled[0])

    def angle(self, features: Sequence[torch.Tensor], repaired: Sequence[torch.Tensor]) -> torch.Tensor:
        """Distance of the coarsest level to the bank as unit vectors: of their cosine alone. -> (B, 1, H/4, W/4)."""
        levels = self.repairable(features)
        pair = (maps[-1].movedim(1, -1) for maps in (levels, repaired))
        feats, clean = (self.encoder.directions(last) for last in pair)  # (B, h, w, C)
        return enlarge((feats - clean).square().sum(dim=-1).sqrt()[:, None], self._map_size(levels))

    def tone(self, image: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        """How unusual colour, brightness and shade are, in spreads of good pictures, each at most its LARGEST.

        As `colour` has them. -> (B, 1, H/4, W/4).
        """
        maps = self.colour(image, groups), self.brightness(image), self.shade(image, groups)
        scales = self.colour_scale, self.brightness_scale, self.shade_scale
        most = LARGEST_COLOUR, LARGEST_BRIGHTNESS, LARGEST_SHADE
        terms = [_scaled(*pair).clamp(max=largest) for *pair, largest in zip(maps, scales, most, strict=True)]
        return sum(terms[1:], terms[0])

    def brightness(self, image: torch.Tensor) -> torch.Tensor:
        """How much each place differs from the light around it. (B, 3, H, W) -> (B, 1, H/4, W/4)."""
        return enlarge(local_brightness(image), [side // MAP_STRIDE for side in image.shape[-2:]])

    def colour(self, image: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        """Distance of each place's opponent colours to the bank; 0 of grey pictures. -> (B, 1, H/4, W/4).

        image: (B, 3, H, W), sides multiples of 64; groups: as of `repair`.
        """
        distance = _distance(self.colours(image), self.colour_bank, groups)
        return enlarge(distance, [side // MAP_STRIDE for side in image.shape[-2:]])

    def shade(self, image: torch.Tensor, groups: torch.Tensor | None = None) -> torch.Tensor:
        """Distance of each place's shade to the bank: a small black hole. As `colour`."""
        return _distance(self.shades(image), self.shade_bank, groups)

    def shades(self, image: torch.Tensor) -> torch.Tensor:
        """What `shade` compares: the colours of 4 x 4 pixels, whatever the light. (B, 3, H, W) -> (B, 3, H/4, W/4)."""
        return relative_colours(self.encoder.evened(image), MAP_STRIDE)

    def _map_size(self, levels: Sequence[torch.Tensor]) -> list[int]:
        return [side * self.encoder.strides[-1] // MAP_STRIDE for side in levels[-1].shape[-2:]]

    @torch.no_grad()
    def fit_tone(self, pictures: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """How far apart colours and shades of different groups (B,) are, and how far places are from the light around.

        By pictures (B, 3, H, W) that the bank is from, not by the few that are held out: they hardly show that the
        light, and with it every colour, varies.
        """
        device = self.colour_scale.device
        shown = [(image.to(device), groups.to(device)) for image, groups in pictures]
        self.colour_scale.copy_(_scale_of([self.colour(*each) for each in shown]))
        self.shade_scale.copy_(_scale_of([self.shade(*each) for each in shown], least_spread=SMALLEST_SHADE))
        self.brightness_scale.copy_(_scale_of([self.brightness(image) for image, _ in shown]))

    @torch.no_grad()
    def fit_scales(self, pictures: Sequence[tuple[torch.Tensor, torch.Tensor | None]]) -> None:
        """Put the maps on one scale by good pictures (B, 3, H, W): held out, or with the groups (B,) they are of."""
        self.eval()
        encoded, tones, device = [], [], self.logit_scale.device
        for image, numbers in pictures:
            shown, groups = image.to(device), None if numbers is None else numbers.to(device)
            features = self.encoder(shown)
            encoded.append((features, self._repair_by_bank(self.repairable(features), groups)))
            tones.append(self.tone(shown, groups))
        for level in range(NUM_LEVELS - 1):  # the bank alone says what is usual
            gaps = self._surprises(encoded, level)
            self.usual[level] = gaps.kthvalue(ceil(USUAL_SHARE * len(gaps))).values
        encoded = [(features, self._repair_by_itself(self.repairable(features), clean)) for features, clean in encoded]
        for level in range(NUM_LEVELS):
            self.level_spreads[level] = self._surprises(encoded, level).std().clamp(min=SMALLEST_SPREAD)
        scales = (self.logit_scale, self.logit), (self.distance_scale, self.distance), (self.angle_scale, self.angle)
        for scale, compute in scales:
            scale.copy_(_scale_of([compute(*pair) for pair in encoded]))
        maxima = [self.excess(*pair, tone).amax() for pair, tone in zip(encoded, tones, strict=True)]
        self.good_maximum.copy_(torch.stack(maxima).amax().clamp(min=1))

    def _surprises(
        self, encoded: Sequence[tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]], level: int
    ) -> torch.Tensor:
        """Of a level at all places of pictures: pairs of features and what they are repaired to. -> (N,)."""
        pairs = [(self.repairable(features)[level], repaired[level]) for features, repaired in encoded]
        return torch.cat([surprise(*pair).flatten() for pair in pairs])


class JointSegmentation(nn.Module):
    """MSDSM in one: each level as it is, as it is compared, as repaired, and their difference, joined to a logit."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.seen = nn.ModuleList(nn.Conv2d(count, width, 1, bias=False) for count in channels)
        self.compared = nn.ModuleList(nn.Conv2d(3 * count + 1, width, 1, bias=False) for count in channels)
        self.norm = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.block = conv_block(width, width, "batch")
        self.to_logit = nn.Conv2d(width, 1, 1)

    def forward(
        self,
        seen: Sequence[torch.Tensor],
        levels: Sequence[torch.Tensor],
        repaired: Sequence[torch.Tensor],
        size: Sequence[int],
    ) -> torch.Tensor:
        """seen: 3 levels as they are; levels, repaired: the same as they are compared -> logit (B, 1, *size)."""
        joined: torch.Tensor | None = None  # from coarse to fine, each level enlarged to the next one
        every = zip(self.seen, self.compared, seen, levels, repaired, strict=True)
        for of_seen, of_compared, own, feats, clean in list(every)[::-1]:
            squared = (feats - clean).square()  # of any size inside a defect: its logarithm is what is learned from
            pair = [feats, clean, squared.log1p(), squared.sum(dim=1, keepdim=True).log1p()]
            compared = of_compared(torch.cat(pair, dim=1))
            if joined is not None:
                compared = compared + enlarge(joined, compared.shape[-2:])
            joined = of_seen(own) + enlarge(compared, own.shape[-2:])
        assert joined is not None
        return self.to_logit(self.block(self.norm(enlarge(joined, size))))


class SurfaceDecoder(nn.Module):
    """The clean surface from repaired levels, for people to look at; no map depends on it."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        coarse, fine = DECODER_CHANNELS
        self.enter = nn.ModuleList(nn.Conv2d(count, coarse, 1) for count in channels)
        self.start_stride = max(8, strides[0])
        self.block = nn.Sequential(nn.Conv2d(coarse, fine, 3, padding=1, bias=False), nn.BatchNorm2d(fine), nn.ReLU())
        self.to_image = nn.Conv2d(fine, 3 * MAP_STRIDE**2, 3, padding=1)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        """levels: 3 maps -> (B, 3, H, W) in [0, 1]."""
        size = [side * self.start_stride // 8 for side in levels[0].shape[-2:]]
        entered = [enlarge(conv(feats), size) for conv, feats in zip(self.enter, levels, strict=True)]  # at stride 8
        x = self.block(upsample(F.relu(sum(entered[1:], entered[0]))))
        return torch.sigmoid(F.pixel_shuffle(self.to_image(x), MAP_STRIDE))  # (B, 48, H/4, W/4) -> (B, 3, H, W)


def _distance(feats: torch.Tensor, bank: nn.Module, groups: torch.Tensor | None) -> torch.Tensor:
    """To the nearest of a bank. (B, C, h, w) -> (B, 1, h, w)."""
    return (feats - bank(feats, groups)).square().sum(dim=1, keepdim=True).sqrt()


def _scale_of(maps: Sequence[torch.Tensor], *, least_spread: float = SMALLEST_SPREAD) -> torch.Tensor:
    """Mean and spread of all values. -> (2,)."""
    values = torch.cat([plane.flatten() for plane in maps])
    return torch.stack([values.mean(), values.std().clamp(min=least_spread)])


def _scaled(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (values - scale[0]) / scale[1]


def _half_closed(plane: torch.Tensor) -> torch.Tensor:
    """Mean of a map and its closing: what lies between marked places is hardly good. (B, 1, h, w) -> the same."""
    return (plane - _dilated(-_dilated(plane))) / 2


def _with_around(plane: torch.Tensor) -> torch.Tensor:
    """A place among many that are unusual is at least as unusual as they are on average. (B, 1, h, w) -> the same."""
    down, across = (_averaging(side).to(plane.device) for side in plane.shape[-2:])
    return torch.maximum(plane, down.T @ plane.clamp(max=MOST_AROUND) @ across)


def _averaging(side: int) -> torch.Tensor:
    """A matrix that averages over AROUND places, twice; the last places are replicated. -> (side, side)."""
    weights = torch.eye(side)[None]
    for _ in range(2):
        weights = F.avg_pool1d(F.pad(weights, (AROUND // 2,) * 2, mode="replicate"), AROUND, stride=1)
    return weights[0]


def _dilated(plane: torch.Tensor) -> torch.Tensor:
    """The highest of the GAP×GAP places around each: down, then across, in half the time of both at once."""
    down = F.max_pool2d(plane, (GAP, 1), stride=1, padding=(GAP // 2, 0))
    return F.max_pool2d(down, (1, GAP), stride=1, padding=(0, GAP // 2))


def _full_size(plane: torch.Tensor) -> torch.Tensor:
    """As `enlarge`, of one channel, whose products are all planes: OpenVINO pads others to 16. -> (B, 1, H, W)."""
    down, across = (
        F.interpolate(torch.eye(side, device=plane.device)[None], scale_factor=float(MAP_STRIDE), mode="linear")[0]
        for side in plane.shape[-2:]
    )  # (h, H), (w, W)
    return down.T @ plane @ across


def enlarge(feats: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Bilinear, to (height, width); as it is where it has them."""
    if list(feats.shape[-2:]) == list(size):
        return feats
    return F.interpolate(feats, size=list(size), mode="bilinear", align_corners=False)
