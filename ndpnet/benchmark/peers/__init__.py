"""Other people's models, trained and scored on prepared data in an environment of their own (`make peers`)."""

from ndpnet.benchmark.peers.launch import PeerResult, available, run_peer
from ndpnet.benchmark.peers.worker.settings import LITE0, MODELS, PeerSettings

__all__ = ["LITE0", "MODELS", "PeerResult", "PeerSettings", "available", "run_peer"]
