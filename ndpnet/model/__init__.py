"""The network: with an encoder of its own, or behind a frozen ImageNet encoder."""

from ndpnet.model.network import NDPNet, NetworkOutput
from ndpnet.model.pretrained import PretrainedNDPNet

Network = NDPNet | PretrainedNDPNet

__all__ = ["NDPNet", "Network", "NetworkOutput", "PretrainedNDPNet"]
