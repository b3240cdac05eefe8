"""Drops synthetic images that repeat an earlier one, and rejects a pool that is mostly repetition (mode collapse).

Images are compared as 16 x 16 gray values of 8 bit: 256 squares of 255 stay below 2**24, so squared distances are exact
in float32 in any order, and what happens to an image does not depend on how many come after it.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from medsynth_ray.gates._lowres import lowres
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, GateResult, Pool, Runtime

_SIDE_PX = 16
_BLOCK_IMAGES = 512


class Dedupe(Component):
    """Keeps the first of synthetic images that are equal, or nearly so."""

    class Config(ComponentConfig):
        """What counts as the same image."""

        max_rms_levels: float | None = Field(default=1.0, ge=0.0, lt=255.0)
        """Two images are the same when their 16 x 16 gray versions differ by at most this (root mean square, in levels
        of 255); colour and fine detail do not count. None: only identical images are the same."""
        min_kept_share: float = Field(default=0.5, ge=0.0, le=1.0)
        """A pool of which a smaller share is kept is rejected as collapsed."""

    config: Config

    def judge(self, pool: Pool, *, shown: ImageSet, unseen: ImageSet, seed: int, runtime: Runtime) -> GateResult:
        """Compare the pool with itself; the real images play no part.

        Raises:
            ValueError: the pool is empty.
        """
        if not len(pool):
            raise ValueError("dedupe: the pool is empty")
        keep = _first_of_equal(pool.images.digests)
        if self.config.max_rms_levels is not None:
            small = np.rint(lowres(pool.images.pixels, _SIDE_PX)).reshape(len(pool), -1).astype(np.float32)
            keep = _first_of_near(small, keep, self.config.max_rms_levels, runtime)
        kept_share = float(keep.mean())
        passed = kept_share >= self.config.min_kept_share
        reason = (
            ""
            if passed
            else (
                f"mode collapse: {int(keep.sum())} of {len(pool)} images are distinct ({kept_share:.1%}), "
                f"min_kept_share is {self.config.min_kept_share:.1%}"
            )
        )
        numbers = {"num_duplicates": float((~keep).sum()), "kept_share": kept_share}
        return GateResult(keep, passed, reason, numbers)


def _first_of_equal(digests: np.ndarray) -> np.ndarray:
    keep = np.zeros(len(digests), dtype=bool)
    keep[np.unique(digests, return_index=True)[1]] = True
    return keep


def _first_of_near(small: np.ndarray, candidates: np.ndarray, max_rms_levels: float, runtime: Runtime) -> np.ndarray:
    """Walk through the candidates in order; keep each that is far from all that were kept: bool (N,)."""
    limit = max_rms_levels**2 * small.shape[1]
    squares = np.square(small, dtype=np.float64).sum(axis=1)
    keep = np.zeros(len(small), dtype=bool)
    for start in range(0, len(small), _BLOCK_IMAGES):
        stop = min(start + _BLOCK_IMAGES, len(small))
        products = small[start:stop] @ small[:stop].T
        near = squares[start:stop, None] + squares[None, :stop] - 2.0 * products <= limit
        for row in np.flatnonzero(candidates[start:stop]):
            keep[start + row] = not (near[row, : start + row] & keep[: start + row]).any()
        runtime.progress(stop, len(small), "images compared")
    return keep
