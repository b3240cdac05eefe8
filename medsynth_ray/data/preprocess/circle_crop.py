"""Crop to the bright disc of a fundus photograph.

Cameras leave a dark frame of their own width around the disc, which a classifier learns as the camera's, and with it
the hospital's, signature. A circle is fitted to the rim of the bright region (algebraic least squares, Kasa 1976),
points off the circle (a label, a cut-off top) are dropped, and it counts only if the rim is round and the rest dark.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from medsynth_ray.data.preprocess._vision import opencv, shrunk, square
from medsynth_ray.protocols import Component, ComponentConfig

SEARCH_PX = 512
"""The disc is searched on a copy of this size."""
NUM_DIRECTIONS = 36
MIN_SEEN_DIRECTIONS = 14
"""Directions from the centre, of NUM_DIRECTIONS, in which the rim must be seen: it may be cut off at two sides."""
MAX_OFF_SHARE = 0.02
"""A point of the rim may be off the circle by this share of the radius."""
MIN_ON_SHARE = 0.7
MIN_DARK_SHARE = 0.95


class CircleCrop(Component):
    """Crops to a square around the disc, black where the disc was cut off; unchanged where there is no disc."""

    class Config(ComponentConfig):
        """What counts as dark, and what is kept."""

        dark_share: float = Field(default=0.1, gt=0.0, lt=1.0)
        """A pixel is frame, not disc, if all its channels are below this share of the image's bright level (its 99th
        percentile)."""
        radius_share: float = Field(default=1.0, ge=0.5, le=1.1)
        """Share of the disc's radius that is kept; below 1 the blurred rim goes too."""
        black_outside: bool = True
        """Set what is left outside the disc to black: text, and the frame's glow."""

    config: Config

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return a square image whose sides touch the disc, or `pixels` where there is no disc.

        Raises:
            ConfigError: OpenCV is not installed.
        """
        small, factor = shrunk(pixels, SEARCH_PX)
        disc = _find_disc(small, self.config.dark_share)
        if disc is None:
            return pixels
        y, x = ((c + 0.5) * factor - 0.5 for c in disc[:2])
        radius = disc[2] * factor * self.config.radius_share
        top, left, side = round(y - radius + 0.5), round(x - radius + 0.5), max(1, round(2 * radius))
        cropped = square(pixels, top, left, side)
        if self.config.black_outside:
            rows, columns = np.ogrid[:side, :side]
            cropped[(rows + top - y) ** 2 + (columns + left - x) ** 2 > radius**2] = 0
        return cropped


def _find_disc(pixels: np.ndarray, dark_share: float) -> tuple[float, float, float] | None:
    """Centre (y, x) and radius in px of the bright disc; None where there is none."""
    value = pixels if pixels.ndim == 2 else pixels.max(axis=2)
    bright = value >= max(1.0, dark_share * float(np.percentile(value, 99)))
    rim = _rim(_largest(bright))
    if len(rim) < NUM_DIRECTIONS:
        return None
    y, x, radius = _fit_circle(rim)
    for _ in range(3):
        on = _distance_off(rim, y, x, radius) <= MAX_OFF_SHARE * radius
        if on.sum() < max(NUM_DIRECTIONS, MIN_ON_SHARE * len(rim)):
            return None
        y, x, radius = _fit_circle(rim[on])
    if _num_directions(rim[on], y, x) < MIN_SEEN_DIRECTIONS or not 0.2 <= radius / max(value.shape) <= 1.0:
        return None
    rows, columns = np.ogrid[: value.shape[0], : value.shape[1]]
    outside = (rows - y) ** 2 + (columns - x) ** 2 > ((1.0 + MAX_OFF_SHARE) * radius) ** 2
    return (y, x, radius) if outside.any() and (~bright[outside]).mean() >= MIN_DARK_SHARE else None


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected region of a mask."""
    _, regions, stats, _ = opencv().connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if len(stats) < 2:
        return mask
    largest: np.ndarray = regions == 1 + int(np.argmax(stats[1:, 4]))
    return largest


def _rim(region: np.ndarray) -> np.ndarray:
    """Outermost points (y, x) of each row and each column of a region, but for those at the image's own edge."""
    points = []
    for mask, flip in ((region, False), (region.T, True)):
        lines = np.flatnonzero(mask.any(axis=1))
        first, last = mask[lines].argmax(axis=1), mask.shape[1] - 1 - mask[lines, ::-1].argmax(axis=1)
        # The edge of a pixel is half a pixel outside its centre.
        for along, outer in ((first, first - 0.5), (last, last + 0.5)):
            inner = (along > 0) & (along < mask.shape[1] - 1) & (lines > 0) & (lines < len(mask) - 1)
            pair = np.stack([lines, outer], axis=1)[inner]
            points.append(pair[:, ::-1] if flip else pair)
    return np.concatenate(points).astype(np.float64)


def _fit_circle(points: np.ndarray) -> tuple[float, float, float]:
    """Least-squares circle: y^2 + x^2 = 2 a y + 2 b x + c, whose radius is sqrt(c + a^2 + b^2)."""
    middle = points.mean(axis=0)
    centred = points - middle
    design = np.column_stack([2.0 * centred, np.ones(len(points))])
    (a, b, c), *_ = np.linalg.lstsq(design, (centred**2).sum(axis=1), rcond=None)
    return float(a + middle[0]), float(b + middle[1]), float(np.sqrt(max(c + a * a + b * b, 0.0)))


def _distance_off(points: np.ndarray, y: float, x: float, radius: float) -> np.ndarray:
    off: np.ndarray = np.abs(np.hypot(points[:, 0] - y, points[:, 1] - x) - radius)
    return off


def _num_directions(points: np.ndarray, y: float, x: float) -> int:
    turn = (np.arctan2(points[:, 0] - y, points[:, 1] - x) / (2.0 * np.pi)) % 1.0
    return len(np.unique((turn * NUM_DIRECTIONS).astype(int) % NUM_DIRECTIONS))
