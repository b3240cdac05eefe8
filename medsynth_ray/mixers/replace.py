"""Synthetic images in the place of real ones: the training set keeps its size."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from medsynth_ray.images import ImageSet
from medsynth_ray.mixers._joining import checked_ratio, joined
from medsynth_ray.protocols import Component, ComponentConfig, Pool
from medsynth_ray.seeds import rng


class Replace(Component):
    """Replaces `ratio` of each class, but never its last real image. A larger ratio keeps a subset of the real ones."""

    takes_ratio: ClassVar[bool] = True

    class Config(ComponentConfig):
        """There is nothing to set."""

    def demand(self, counts: np.ndarray, *, ratio: float | None) -> np.ndarray:
        """Return round(n_c * ratio), at most n_c - 1.

        Raises:
            ValueError: `ratio` is not in [0, 1).
        """
        share = checked_ratio("replace", ratio)
        demand: np.ndarray = np.minimum(np.rint(counts * share), np.maximum(counts - 1, 0)).astype(np.int64)
        return demand

    def mix(self, real: ImageSet, pool: Pool, *, ratio: float | None, seed: int) -> ImageSet:
        """Return the real images that stay, chosen by `seed`, in their order; then the synthetic ones.

        Raises:
            ValueError: `ratio` is not in [0, 1), or the pool is too small.
        """
        demand = self.demand(real.counts(), ratio=ratio)
        keep = np.ones(len(real), dtype=bool)
        for label, num in enumerate(demand):
            order = rng("replace", seed, label).permutation(np.flatnonzero(real.labels == label))
            keep[order[: int(num)]] = False
        return joined(real.take(keep), pool, demand)
