"""Artificial defects for the demo surfaces: drawn by other models than training's Perlin masks and pasted pictures.

Only +, -, *, / and square roots of float64, which IEEE 754 rounds alike on every machine, and raw Philox words,
which NumPy keeps stable: the pictures have the same bytes everywhere.
"""

import math
from collections.abc import Callable

import numpy as np

# opacities are multiples of 1/256; below this one a filling 100 levels away changes less than about 4 levels
MIN_OPACITY = 11
# a smear changes nothing where the surface is flat: another is drawn until so many pixels change by more than so much
MIN_VISIBLE_PIXELS, VISIBLE_LEVELS = 60, 8
MAX_DRAWS = 1000

Layer = tuple[np.ndarray, np.ndarray]  # opacity in [0, 1] and filling in [0, 255], float64 (S, S)


class Draws:
    """Random numbers that are a function of the key alone, on every machine and NumPy."""

    def __init__(self, key: int) -> None:
        self._words = np.random.Philox(key=key)

    def integer(self, low: int, high: int) -> int:
        """Return an integer of [low, high)."""
        return low + int(self._words.random_raw()) % (high - low)

    def uniform(self, low: float, high: float) -> float:
        """Return a number of [low, high), from 53 random bits."""
        return low + (high - low) * ((int(self._words.random_raw()) >> 11) / 2**53)

    def direction(self) -> tuple[float, float]:
        """Return a unit vector (y, x), uniform over the circle."""
        while True:
            y, x = self.uniform(-1, 1), self.uniform(-1, 1)
            length = math.sqrt(y * y + x * x)
            if 0.1 < length <= 1:
                return y / length, x / length

    def centre(self, size: int, margin: int) -> tuple[float, float]:
        """Return a point (y, x) at least `margin` pixels from the edge."""
        return self.uniform(margin, size - margin), self.uniform(margin, size - margin)


def draw_defect(surface: np.ndarray, kind: str, *, hardness: float, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Put one visible defect on a surface; hardness from 0 (plain) to 1. -> uint8 (S, S) and its mask, bool (S, S)."""
    for _ in range(MAX_DRAWS):
        opacity, filling = RENDERERS[kind](surface.astype(np.float64), hardness, draws)
        weight = np.floor(opacity * 256 + 0.5).astype(np.int64).clip(0, 256)
        levels = np.floor(filling + 0.5).astype(np.int64).clip(0, 255)
        mask = weight >= MIN_OPACITY
        blended = (surface * (256 - weight) + levels * weight + 128) // 256
        if ((np.abs(blended - surface) > VISIBLE_LEVELS) & mask).sum() >= MIN_VISIBLE_PIXELS:
            return np.where(mask, blended, surface).astype(np.uint8), mask
    raise ValueError(f"no {kind} can be seen on this surface: it has no texture")


def draw_scratch(surface: np.ndarray, hardness: float, draws: Draws) -> Layer:
    """A thin, slightly curved line, light or dark, that fades towards its ends."""
    size = len(surface)
    point, (dy, dx) = draws.centre(size, 40), draws.direction()
    length, num_steps = draws.uniform(50, 95), 10
    bend = draws.uniform(-0.12, 0.12)
    path = [(point[0] - dy * length / 2, point[1] - dx * length / 2)]
    for _ in range(num_steps):
        dy, dx = _turned(dy, dx, bend)
        path.append((path[-1][0] + dy * length / num_steps, path[-1][1] + dx * length / num_steps))
    width = _between(2.6, 1.5, hardness)
    widths = [width * (0.55 + 0.45 * min(step, num_steps - 1 - step) / (num_steps / 2)) for step in range(num_steps)]
    level = 240.0 if draws.integer(0, 2) else 12.0
    return _between(0.9, 0.6, hardness) * _line(size, path, widths), np.full((size, size), level)


def draw_crack(surface: np.ndarray, hardness: float, draws: Draws) -> Layer:
    """A dark random walk with branches, from 3 to 1 pixels wide."""
    size = len(surface)
    width = _between(3.0, 1.6, hardness)
    start = draws.centre(size, 36)
    direction = draws.direction()
    opacity = np.zeros((size, size))
    for sign in (1, -1):  # the walk leaves its start on both sides
        num_steps = draws.integer(8, 13)
        path = _walk(start, (sign * direction[0], sign * direction[1]), num_steps, draws)
        opacity = np.maximum(opacity, _line(size, path, _tapered(width, num_steps)))
        fork = draws.integer(2, num_steps - 3)
        heading = _turned(*direction, sign * draws.uniform(0.7, 1.3) * (1 if draws.integer(0, 2) else -1))
        branch = _walk(path[fork], (sign * heading[0], sign * heading[1]), 5, draws)
        opacity = np.maximum(opacity, _line(size, branch, _tapered(0.7 * width, 5)))
    return _between(0.95, 0.6, hardness) * opacity, np.full((size, size), 8.0)


def draw_stain(surface: np.ndarray, hardness: float, draws: Draws) -> Layer:
    """A soft patch of a few round blobs, light or dark, through which the surface shows."""
    size = len(surface)
    centre_y, centre_x = draws.centre(size, 36)
    reach = _between(18, 11, hardness)
    field = np.zeros((size, size))
    for _ in range(draws.integer(3, 6)):
        centre = (centre_y + draws.uniform(-reach, reach), centre_x + draws.uniform(-reach, reach))
        field = field + 1.3 * _bump(size, centre, draws.uniform(0.9, 1.5) * reach)
    level = 225.0 if draws.integer(0, 2) else 25.0
    return _between(0.72, 0.4, hardness) * field.clip(0, 1), np.full((size, size), level)


def draw_hole(surface: np.ndarray, hardness: float, draws: Draws) -> Layer:
    """A dark ellipse with its far wall lit, inside a rim that is lighter on one side."""
    size = len(surface)
    along, across = _ellipse_axes(size, draws.centre(size, 24), draws.direction())
    radius = _between(14, 5, hardness) * draws.uniform(0.9, 1.1)
    reach = np.sqrt((along / radius) ** 2 + (across / (radius * draws.uniform(0.6, 0.95))) ** 2)
    rim = 3 / radius  # 3 pixels wide
    inside = ((1 - reach) * radius + 0.5).clip(0, 1)
    lit = ((along / radius + 1) / 2).clip(0, 1)
    wall = 10 + 60 * lit * reach.clip(0, 1)
    filling = inside * wall + (1 - inside) * 210
    rim_opacity = (0.15 + 0.6 * lit) * ((1 + rim - reach) / rim).clip(0, 1)
    return _between(1.0, 0.8, hardness) * np.maximum(inside, rim_opacity), filling


def draw_smear(surface: np.ndarray, hardness: float, draws: Draws) -> Layer:
    """A patch blurred along one direction, as if wiped."""
    size = len(surface)
    direction = draws.direction()
    along, across = _ellipse_axes(size, draws.centre(size, 36), direction)
    radius = _between(34, 22, hardness)
    opacity = _plateau((along / radius) ** 2 + (across / (0.65 * radius)) ** 2)
    half_length = int(_between(13, 6, hardness))
    rows, columns = np.mgrid[0:size, 0:size]
    total = np.zeros((size, size))
    for step in range(-half_length, half_length + 1):
        shift_y, shift_x = math.floor(direction[0] * step + 0.5), math.floor(direction[1] * step + 0.5)
        total = total + surface[_reflected(rows + shift_y, size), _reflected(columns + shift_x, size)]
    return opacity, total / (2 * half_length + 1)


def draw_weave(surface: np.ndarray, hardness: float, draws: Draws) -> Layer:
    """A patch where the texture is turned and finer than around it, with a feathered edge."""
    size = len(surface)
    centre = draws.centre(size, 36)
    direction = draws.direction()
    along, across = _ellipse_axes(size, centre, direction)
    radius = _between(32, 20, hardness)
    opacity = _plateau((along / radius) ** 2 + (across / (0.8 * radius)) ** 2)
    finer = _between(3.0, 2.0, hardness)
    filling = np.zeros((size, size))
    for offset_y in (-0.25, 0.25):  # four samples a pixel: the finer texture hardly aliases
        for offset_x in (-0.25, 0.25):
            rows = centre[0] + finer * (along + offset_y)
            columns = centre[1] + finer * (across + offset_x)
            filling = filling + _sampled(surface, rows, columns)
    return opacity, filling / 4


RENDERERS: dict[str, Callable[[np.ndarray, float, Draws], Layer]] = {
    "crack": draw_crack,
    "hole": draw_hole,
    "scratch": draw_scratch,
    "smear": draw_smear,
    "stain": draw_stain,
    "weave": draw_weave,
}


def _between(easy: float, hard: float, hardness: float) -> float:
    return easy + (hard - easy) * hardness


def _turned(dy: float, dx: float, tangent: float) -> tuple[float, float]:
    """Turn a unit vector by the angle with this tangent (of less than a right angle)."""
    length = math.sqrt(1 + tangent * tangent)
    return (dy + tangent * dx) / length, (dx - tangent * dy) / length


def _walk(
    start: tuple[float, float], direction: tuple[float, float], num_steps: int, draws: Draws
) -> list[tuple[float, float]]:
    path, heading = [start], direction
    for _ in range(num_steps):
        # each step strays from the common direction, not from the last step: cracks zigzag but do not curl
        heading = _turned(*direction, draws.uniform(-0.9, 0.9))
        length = draws.uniform(2.5, 5.5)
        path.append((path[-1][0] + heading[0] * length, path[-1][1] + heading[1] * length))
    return path


def _tapered(width: float, num_steps: int) -> list[float]:
    return [max(1.0, width * (1 - 0.7 * step / num_steps)) for step in range(num_steps)]


def _line(size: int, path: list[tuple[float, float]], widths: list[float]) -> np.ndarray:
    """Return the anti-aliased cover of a polyline with one width per segment, in pixels. -> float64 (S, S)."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float64)
    cover = np.zeros((size, size))
    for (y0, x0), (y1, x1), width in zip(path[:-1], path[1:], widths, strict=True):
        dy, dx = y1 - y0, x1 - x0
        share = (((rows - y0) * dy + (columns - x0) * dx) / (dy * dy + dx * dx)).clip(0, 1)
        distance = np.sqrt((rows - y0 - share * dy) ** 2 + (columns - x0 - share * dx) ** 2)
        cover = np.maximum(cover, (width / 2 + 0.5 - distance).clip(0, 1))
    return cover


def _bump(size: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    """Return (1 - d^2/r^2)^2 inside the radius, 0 outside: close to a Gaussian, without exp. -> float64 (S, S)."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float64)
    square = ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (radius * radius)
    return (1 - square).clip(0, 1) ** 2


def _plateau(square: np.ndarray) -> np.ndarray:
    """Return 1 in the middle and a feathered edge to 0, from the squared reach (1 = edge). -> float64 (S, S)."""
    return (2.5 * (1 - square)).clip(0, 1)


def _ellipse_axes(
    size: int, centre: tuple[float, float], direction: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return every pixel's coordinates along and across a direction, from the centre. -> two float64 (S, S)."""
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float64)
    y, x = rows - centre[0], columns - centre[1]
    return y * direction[0] + x * direction[1], x * direction[0] - y * direction[1]


def _reflected(index: np.ndarray, size: int) -> np.ndarray:
    """Fold indices back into [0, size), the edge pixel not repeated."""
    folded = np.abs(index) % (2 * size - 2)
    return np.minimum(folded, 2 * size - 2 - folded)


def _sampled(surface: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sample a surface bilinearly at float64 (S, S) coordinates, reflected at its edges. -> float64 (S, S)."""
    size = len(surface)
    top, left = np.floor(rows), np.floor(columns)
    below, right = rows - top, columns - left
    row0, row1 = (_reflected(top.astype(np.int64) + step, size) for step in (0, 1))
    column0, column1 = (_reflected(left.astype(np.int64) + step, size) for step in (0, 1))
    upper = surface[row0, column0] * (1 - right) + surface[row0, column1] * right
    lower = surface[row1, column0] * (1 - right) + surface[row1, column1] * right
    return upper * (1 - below) + lower * below
