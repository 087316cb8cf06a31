"""What the loop runs: a network with the losses of one phase."""

from torch import nn

from ndpnet.config import LossConfig
from ndpnet.model import Network
from ndpnet.perceptual import VGGFeatures


class PhaseTask(nn.Module):
    """Maps a batch to loss terms and their weighted sum `loss`; a subclass trains parts of the network."""

    number: int  # of the phase

    def __init__(self, network: Network, vgg: VGGFeatures | None, losses: LossConfig) -> None:
        super().__init__()
        self.network, self.vgg, self.losses = network, vgg, losses
