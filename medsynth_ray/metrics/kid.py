"""Kernel inception distance (arXiv 1801.01401), the unbiased estimate in full: no random blocks, any feature space.

KID = mean k(x, x') + mean k(y, y') - 2 mean k(x, y) over all pairs of different rows, k(u, v) = (u.v / d + 1)^3.
Unbiased at every n, so it may be negative; its expectation is 0 if and only if both laws agree on that kernel.
The floor beside it is KID of real images against real images: it scatters around 0, and shows by how much.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from medsynth_ray.metrics._features import checked, subset
from medsynth_ray.protocols import Component, ComponentConfig, Measured
from medsynth_ray.seeds import rng as seeded


class Kid(Component):
    """KID with a jackknife interval, a permutation p value and the floor of real against real."""

    version: ClassVar[int] = 2
    lower_is_better: ClassVar[bool] = True

    class Config(ComponentConfig):
        """Settings."""

        max_images: int = Field(default=2000, ge=3)
        """Of a larger side a seeded subset of this size is taken: memory grows with its square."""
        min_images: int = Field(default=20, ge=3)
        """Fewer on a side are refused."""
        num_permutations: int = Field(default=199, ge=19)
        """Relabellings behind p, whose smallest value is 1 / (num_permutations + 1)."""
        num_floor_splits: int = Field(default=5, ge=0)
        """Random halvings of the reference behind the floor. 0: no floor."""

        @classmethod
        def tiny(cls) -> Kid.Config:
            """Four images and 19 permutations will do."""
            return cls(min_images=4, num_permutations=19)

    config: Config

    def measure(self, reference: np.ndarray, synthetic: np.ndarray, *, space: str, seed: int) -> Measured:
        """Measure; `low`, `high` are 1.96 delete-one jackknife standard errors away.

        Simulated coverage: about 95 % where the laws differ, 96 to 99 % where they agree (the error is then too large
        by up to the square root of 2).
        details: `p`, the share of relabellings with a KID at least as large (one-sided, exact), `standard_error`, and
        `floor` and `floor_high`, mean and maximum of KID between disjoint random parts of the reference, each of at
        most half of it and of the smaller side's n; left out where a part holds fewer than `min_images`.

        Raises:
            ValueError: too few images, values that are not finite, or shapes that do not fit.
        """
        real, drawn = checked(reference, synthetic, min_images=self.config.min_images)
        rng = np.random.default_rng(seed)
        real, drawn = subset(real, self.config.max_images, rng), subset(drawn, self.config.max_images, rng)
        kernel_TT = polynomial_kernel(np.concatenate([real, drawn]))
        value = float(kid_of(kernel_TT, len(real)))
        error = jackknife_error(kernel_TT, len(real))
        p = permutation_p(kernel_TT, len(real), num_permutations=self.config.num_permutations, rng=rng)
        details = {
            "p": p,
            "standard_error": error,
            **self._floor(kernel_TT[: len(real), : len(real)], len(drawn), seed),
        }
        return Measured(f"kid_{space}", value, value - 1.96 * error, value + 1.96 * error, details)

    def _floor(self, kernel_NN: np.ndarray, num_synthetic: int, seed: int) -> dict[str, float]:
        """`floor` and `floor_high` from the reference's own kernel; a generator of their own leaves p as it is."""
        num = min(len(kernel_NN) // 2, num_synthetic)
        if num < self.config.min_images or not self.config.num_floor_splits:
            return {}
        rng = seeded("kid floor", seed)
        orders = [rng.permutation(len(kernel_NN))[: 2 * num] for _ in range(self.config.num_floor_splits)]
        floors = [kid_of(kernel_NN[np.ix_(order, order)], num) for order in orders]
        return {"floor": float(np.mean(floors)), "floor_high": max(floors)}


def polynomial_kernel(features: np.ndarray) -> np.ndarray:
    """All k(u, v) = (u.v / d + 1)^3 of float64 (T, d) rows: (T, T), its diagonal set to 0 (no row meets itself)."""
    base = features @ features.T / features.shape[1] + 1.0
    kernel: np.ndarray = base * base * base
    np.fill_diagonal(kernel, 0.0)
    return kernel


def kid_of(kernel_TT: np.ndarray, num_first: int) -> float:
    """KID of the first `num_first` rows against the others, from their `polynomial_kernel`."""
    n, m = num_first, len(kernel_TT) - num_first
    within = kernel_TT[:n, :n].sum() / (n * (n - 1)) + kernel_TT[n:, n:].sum() / (m * (m - 1))
    return float(within - 2.0 * kernel_TT[:n, n:].mean())


def jackknife_error(kernel_TT: np.ndarray, num_first: int) -> float:
    """Two-sample delete-one jackknife standard error of `kid_of`; needs 3 rows on each side."""
    n, m = num_first, len(kernel_TT) - num_first
    xx, yy, xy = kernel_TT[:n, :n], kernel_TT[n:, n:], kernel_TT[:n, n:]
    variance = 0.0
    for own, other, cross, size, rest in ((xx, yy, xy, n, m), (yy, xx, xy.T, m, n)):
        within = (own.sum() - 2.0 * own.sum(axis=1)) / ((size - 1) * (size - 2)) + other.sum() / (rest * (rest - 1))
        left_out = within - 2.0 * (cross.sum() - cross.sum(axis=1)) / ((size - 1) * rest)
        variance += (size - 1) / size * float(((left_out - left_out.mean()) ** 2).sum())
    return float(np.sqrt(variance))


def permutation_p(kernel_TT: np.ndarray, num_first: int, *, num_permutations: int, rng: np.random.Generator) -> float:
    """Share of relabellings (the given one included) whose KID is at least as large; all from one matrix product."""
    n, m = num_first, len(kernel_TT) - num_first
    first_TP = rng.permuted(np.tile(np.arange(n + m) < n, (num_permutations, 1)), axis=1).T.astype(np.float64)
    first_TP = np.concatenate([(np.arange(n + m) < n)[:, None].astype(np.float64), first_TP], axis=1)
    sums_TP = kernel_TT @ first_TP
    xx = (first_TP * sums_TP).sum(axis=0)
    xy = sums_TP.sum(axis=0) - xx
    yy = kernel_TT.sum() - xx - 2.0 * xy
    kid_P = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2.0 * xy / (n * m)
    # Equal relabellings may differ by rounding; they count as equal.
    return float(np.mean(kid_P >= kid_P[0] - 1e-12 * np.abs(kernel_TT).mean()))
