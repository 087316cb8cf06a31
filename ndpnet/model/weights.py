"""A network from its parameters, and its weights as a file."""

from pathlib import Path

import safetensors
from safetensors.torch import load_file, save_file

from ndpnet.config import ModelConfig
from ndpnet.model import NDPNet, Network, PretrainedNDPNet

OF_PRETRAINED = ("encoder", "bank_size", "head_channels", "anomaly_map")  # parameters of such a network
NOT_OF_OWN = ("reference", "num_references", "encoder_weights", "score_pixels")  # of no NDPNet


def make_network(model: ModelConfig, *, is_trained: bool = False) -> Network:
    """A network of the given shape: the paper's own, or one behind a backbone of timm. is_trained: weights follow."""
    if model.encoder != "own":
        return PretrainedNDPNet(**model.model_dump(include=set(OF_PRETRAINED)), is_trained=is_trained)
    return NDPNet(**model.model_dump(exclude={*NOT_OF_OWN, *OF_PRETRAINED}))


def write_weights(network: Network, path: Path, *, prefixes: tuple[str, ...] = ()) -> None:
    """Save the state of a network, or of its parts named by `prefixes`, as safetensors."""
    state = network.state_dict()
    chosen = {name: value for name, value in state.items() if not prefixes or name.startswith(prefixes)}
    save_file({name: value.detach().cpu().contiguous() for name, value in chosen.items()}, path)


def read_weights(path: Path, network: Network) -> None:
    """Load some parts of a network, names and shapes checked. ValueError: the file is unreadable or does not fit."""
    try:
        state = load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"cannot read weights from {path}: {error} (run `ndpnet train-phase1` again)") from error
    try:
        result = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} was trained with other model parameters (run `ndpnet train-phase1` again)") from error
    if result.unexpected_keys:
        raise ValueError(f"{path} holds unknown weights {result.unexpected_keys[0]} (run `ndpnet train-phase1` again)")
