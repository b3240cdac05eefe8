"""Precision, recall, density and coverage (Naeem et al. 2020, arXiv 2002.09797) from k-nearest-neighbour balls.

Around each image lies a ball that reaches to its k-th nearest neighbour of its own side. Over N real and M synthetic:

- coverage: share of real balls that hold a synthetic image; falls where a mode is missing, and cannot exceed 1;
- density: synthetic images in real balls, each counted as often as it lies in one, over k M; 1 where the laws agree,
  above 1 where samples crowd the dense places;
- precision, recall (Kynkaanniemi et al. 2019, arXiv 1904.06991): share of synthetic images in any real ball, and of
  real images in any synthetic ball; one outlier's ball is enough to raise them, so they are context here.

Of equal laws, whatever they are, coverage is 1 - prod_{i=1..k} (N - i) / (N + M - i) on average, which tends to
1 - 2^-k for N = M (0.97 at k = 5), and density is 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from pydantic import Field

from medsynth_ray.metrics._features import checked, subset
from medsynth_ray.protocols import Component, ComponentConfig, Measured

BLOCK_ROWS = 1024
"""Distances are held for this many rows at a time."""


class Prdc(Component):
    """Coverage at the same n on both sides; the other three, and real against real, are in the details."""

    lower_is_better: ClassVar[bool] = False

    class Config(ComponentConfig):
        """Settings."""

        nearest_k: int = Field(default=5, ge=1)
        """Which neighbour a ball reaches to. Numbers of different k do not compare."""
        num_images: int | None = Field(default=None, ge=2)
        """Images of each side. None: as many as both sides hold, but at most half of the reference, so that there is a
        floor."""
        min_images: int = Field(default=20, ge=2)
        """A side that holds fewer, or not more than `nearest_k`, is refused."""
        num_floor_splits: int = Field(default=3, ge=0)
        """Random halvings of the reference behind the floor. 0: no floor."""

        @classmethod
        def tiny(cls) -> Prdc.Config:
            """Eight images and the third neighbour will do."""
            return cls(nearest_k=3, min_images=8)

    config: Config

    def measure(self, reference: np.ndarray, synthetic: np.ndarray, *, space: str, seed: int) -> Measured:
        """Measure coverage, without an interval: its scale is that of the floor.

        details: `precision`, `recall`, `density`, `coverage`; `floor` and `floor_low`, mean and minimum of coverage
        between disjoint random parts of the reference at the same n, left out where it holds fewer than 2 n.

        Raises:
            ValueError: too few images, values that are not finite, or shapes that do not fit.
        """
        k = self.config.nearest_k
        n = self.config.num_images or min(len(synthetic), max(len(reference) // 2, self._least_images()))
        real, drawn = checked(reference, synthetic, min_images=max(n, self._least_images()))
        rng = np.random.default_rng(seed)
        numbers = prdc_of(subset(real, n, rng), subset(drawn, n, rng), nearest_k=k)
        splits = self.config.num_floor_splits if len(real) >= 2 * n else 0
        floors = [_halves_coverage(real, n, k, rng) for _ in range(splits)]
        floor = {"floor": float(np.mean(floors)), "floor_low": min(floors)} if floors else {}
        return Measured(f"prdc_coverage_{space}_k{k}_n{n}", numbers["coverage"], details={**numbers, **floor})

    def _least_images(self) -> int:
        return max(self.config.min_images, self.config.nearest_k + 1)


def prdc_of(real: np.ndarray, drawn: np.ndarray, *, nearest_k: int) -> dict[str, float]:
    """`precision`, `recall`, `density` and `coverage` of float64 (M, D) rows against (N, D) rows.

    Raises:
        ValueError: a side holds no `nearest_k` neighbours of a row.
    """
    if min(len(real), len(drawn)) <= nearest_k:
        raise ValueError(f"nearest_k is {nearest_k}: each side needs more rows, got {len(real)} and {len(drawn)}")
    centre = real.mean(axis=0)
    real, drawn = real - centre, drawn - centre
    # What is as far away as the ball reaches is not in it, also where rounding says otherwise.
    slack = 1e-12 * max(float((rows**2).sum(axis=1).max()) for rows in (real, drawn))
    real_radii, drawn_radii = _squared_radii(real, nearest_k) - slack, _squared_radii(drawn, nearest_k) - slack
    balls_M, recalled, covered = np.zeros(len(drawn)), 0, 0
    for start, squared_BM in _squared_distances(real, drawn):
        inside_BM = squared_BM < real_radii[start : start + BLOCK_ROWS, None]
        balls_M += inside_BM.sum(axis=0)
        covered += int(inside_BM.any(axis=1).sum())
        recalled += int((squared_BM < drawn_radii).any(axis=1).sum())
    return {
        "precision": float((balls_M > 0).mean()),
        "recall": recalled / len(real),
        "density": float(1.0 / nearest_k * balls_M.mean()),
        "coverage": covered / len(real),
    }


def _squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, squared distances of the next rows of `a` to all of `b`)."""
    squares_b = (b**2).sum(axis=1)
    for start in range(0, len(a), BLOCK_ROWS):
        block = a[start : start + BLOCK_ROWS]
        yield start, (block**2).sum(axis=1)[:, None] + squares_b - 2.0 * (block @ b.T)


def _squared_radii(rows: np.ndarray, nearest_k: int) -> np.ndarray:
    """Squared distance of each row to its `nearest_k`-th nearest other row."""
    radii = []
    for start, squared_BN in _squared_distances(rows, rows):
        own = np.arange(len(squared_BN))
        squared_BN[own, start + own] = -np.inf
        radii.append(np.partition(squared_BN, nearest_k, axis=1)[:, nearest_k])
    return np.concatenate(radii)


def _halves_coverage(real: np.ndarray, n: int, nearest_k: int, rng: np.random.Generator) -> float:
    order = rng.permutation(len(real))
    return prdc_of(real[order[:n]], real[order[n : 2 * n]], nearest_k=nearest_k)["coverage"]
