"""Where the weights of a backbone lie on this machine."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")


def weights_path(source: str) -> Path:
    """The file that `model.encoder_weights` names: itself, or the only file of weights in an installed package."""
    if Path(source).is_file():
        return Path(source)
    try:
        files = [file for file in distribution(source).files or () if file.suffix in SUFFIXES]
    except PackageNotFoundError:
        raise ValueError(
            f"model.encoder_weights {source!r} is no file and no installed package (give a local file of weights)"
        ) from None
    if len(files) != 1:
        raise ValueError(f"the package {source} has {len(files)} files of weights (give the path of one)")
    return Path(str(files[0].locate()))
