"""Artificial defects: Perlin masks filled with natural images (Eq. 1)."""
