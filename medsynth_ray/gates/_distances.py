"""Euclidean distances between two sets of features, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_BLOCK_ROWS = 512


def blocks(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows of x, their distances to all rows of y): float64 (B, M), of x (N, D) and y (M, D)."""
    center = y.mean(axis=0, dtype=np.float64)
    x, y = x - center, y - center
    squares = np.square(y).sum(axis=1)
    for start in range(0, len(x), _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, len(x)))
        squared = np.square(x[rows]).sum(axis=1)[:, None] + squares - 2.0 * (x[rows] @ y.T)
        yield rows, np.sqrt(np.maximum(squared, 0.0))
