"""Other models and the paper's tables, side by side with NDP-Net."""
