"""Images as a few gray values: what is left of them when detail and colour are gone."""

from __future__ import annotations

import numpy as np

_CHUNK_VALUES = 8_000_000


def lowres(pixels: np.ndarray, side_px: int) -> np.ndarray:
    """uint8 (N, H, W, C) -> float64 (N, side_px, side_px) in [0, 255]: mean over channels, then over equal areas.

    Row i depends on image i alone, to the last bit.
    """
    rows, columns = (area_weights(size, side_px) for size in pixels.shape[1:3])
    size = max(1, _CHUNK_VALUES // max(1, int(np.prod(pixels.shape[1:]))))
    small = np.empty((len(pixels), side_px, side_px))
    for start in range(0, len(pixels), size):
        gray = pixels[start : start + size].mean(axis=3, dtype=np.float64)
        small[start : start + size] = rows @ gray @ columns.T
    return small


def area_weights(size: int, side: int, *, window: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """(side, size): the share of each of `size` pixels in each of `side` equal parts of a window; rows sum to 1.

    window: where it begins and ends, in shares of the whole, within [0, 1].
    """
    edges = np.linspace(window[0] * size, window[1] * size, side + 1)
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights = np.maximum(overlap, 0.0)
    shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return shares
