"""NDP-Net: surface defect inspection learnt from good pictures alone."""

__version__ = "0.1.0"
