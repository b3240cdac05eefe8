"""Synthetic images where a class is short of them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from medsynth_ray.images import ImageSet
from medsynth_ray.mixers._joining import joined
from medsynth_ray.protocols import Component, ComponentConfig, Pool


class Balance(Component):
    """Fills every class up to the largest one."""

    takes_ratio: ClassVar[bool] = False

    class Config(ComponentConfig):
        """There is nothing to set."""

    def demand(self, counts: np.ndarray, *, ratio: float | None) -> np.ndarray:
        """Return max(n) - n_c.

        Raises:
            ValueError: a ratio is given.
        """
        if ratio is not None:
            raise ValueError(f"balance: takes no ratio (it sets its own counts), got {ratio}")
        demand: np.ndarray = (counts.max(initial=0) - counts).astype(np.int64)
        return demand

    def mix(self, real: ImageSet, pool: Pool, *, ratio: float | None, seed: int) -> ImageSet:
        """Return the real images, then the synthetic ones; nothing is drawn.

        Raises:
            ValueError: a ratio is given, or the pool is too small.
        """
        return joined(real, pool, self.demand(real.counts(), ratio=ratio))
