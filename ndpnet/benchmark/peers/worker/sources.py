"""The folder of natural pictures."""

from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png")  # what torchvision's reader takes


def find_sources(folder: Path) -> list[Path]:
    """Every picture below a folder, in the order of their paths. ValueError: there is none."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"no picture ({', '.join(SUFFIXES)}) under sources = {folder} (name a folder of natural ones)")
    return paths
