"""Bootstrap over groups: images of one patient are drawn together, so the interval covers other patients.

Training runs are not drawn; `paired.two_way_bootstrap` does both.
"""

from __future__ import annotations

import numpy as np

_CHUNK = 250
_FIXED_POINT = 2.0**32


def resampled_sums(sums: np.ndarray, *, seed: int, num_resamples: int) -> np.ndarray:
    """Draw groups with replacement and add up their sums (G, C): float64 (B, C).

    sums: whole numbers (counts, or numbers from `whole`), so that the result does not depend on the order of adding.
    """
    rng, num_groups = np.random.default_rng(seed), len(sums)
    drawn = []
    for start in range(0, num_resamples, _CHUNK):
        size = min(_CHUNK, num_resamples - start)
        picks = rng.integers(0, num_groups, (size, num_groups)) + np.arange(size)[:, None] * num_groups
        times = np.bincount(picks.ravel(), minlength=size * num_groups).reshape(size, num_groups)
        drawn.append(times.astype(np.float64) @ sums)
    return np.concatenate(drawn)


def sums_by_group(codes: np.ndarray, cells: np.ndarray, weights: np.ndarray, *, num_cells: int) -> np.ndarray:
    """Add up whole `weights` by group and cell: float64 (G, num_cells).

    Args:
        codes: group of each image, int (N,) in [0, G).
        cells: where an image's weight goes, int (..., N) in [0, num_cells).
        weights: (..., N).
        num_cells: C.
    """
    num_groups = int(codes.max()) + 1
    places = np.broadcast_to(codes * num_cells + cells, weights.shape)
    added = np.bincount(places.ravel(), weights=weights.ravel(), minlength=num_groups * num_cells)
    return added.reshape(num_groups, num_cells)


def whole(values: np.ndarray) -> np.ndarray:
    """Values in [-2, 2] as multiples of 2^-32: sums over fewer than a million images are exact in any order."""
    return np.rint(np.asarray(values, dtype=np.float64) * _FIXED_POINT)


def as_numbers(sums: np.ndarray) -> np.ndarray:
    """Undo `whole` for sums of its numbers."""
    numbers: np.ndarray = sums / _FIXED_POINT
    return numbers


def measure(value: float, draws: np.ndarray | None) -> dict[str, float | None]:
    """A number with its 95 % percentile interval: value, low, high (None without draws)."""
    if draws is None:
        return {"value": float(value), "low": None, "high": None}
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": float(value), "low": float(low), "high": float(high)}
