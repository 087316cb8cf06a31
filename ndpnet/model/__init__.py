"""The network."""

from ndpnet.model.network import NDPNet, NetworkOutput

__all__ = ["NDPNet", "NetworkOutput"]
