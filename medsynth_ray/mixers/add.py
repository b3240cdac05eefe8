"""Synthetic images on top of all real ones."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from medsynth_ray.images import ImageSet
from medsynth_ray.mixers._joining import checked_ratio, joined
from medsynth_ray.protocols import Component, ComponentConfig, Pool


class Add(Component):
    """Adds to each class until `ratio` of it is synthetic; the real images all stay."""

    takes_ratio: ClassVar[bool] = True

    class Config(ComponentConfig):
        """There is nothing to set."""

    def demand(self, counts: np.ndarray, *, ratio: float | None) -> np.ndarray:
        """Return round(n_c * ratio / (1 - ratio)).

        Raises:
            ValueError: `ratio` is not in [0, 1).
        """
        share = checked_ratio("add", ratio)
        return np.rint(counts * (share / (1.0 - share))).astype(np.int64)

    def mix(self, real: ImageSet, pool: Pool, *, ratio: float | None, seed: int) -> ImageSet:
        """Return the real images, then the synthetic ones; nothing is drawn.

        Raises:
            ValueError: `ratio` is not in [0, 1), or the pool is too small.
        """
        return joined(real, pool, self.demand(real.counts(), ratio=ratio))
