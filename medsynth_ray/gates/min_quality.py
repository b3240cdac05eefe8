"""Drops synthetic images that look unlike real ones, and rejects a pool with too few good ones.

The realism of an image x (Kynkaanniemi et al., arXiv:1904.06991, eq. 3) is the largest r_i / d(x, i) over shown images
i, r_i being the distance of i to its k-th nearest other shown image and d a distance in a feature space: x is at least
1 where it lies within the reach of some real image. As there, the half of the images with the larger r_i is left out,
since outliers reach far. Their threshold of 1 is not calibrated; here it is an order statistic of the realism of unseen
real images (one for each group), of which `tail_share` would be dropped.

This is no privacy gate: a copy is infinitely realistic. It needs near_copy or membership beside it.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field

from medsynth_ray.gates._distances import blocks
from medsynth_ray.gates._order_statistics import one_per_group, threshold
from medsynth_ray.gates._shares import clopper_pearson
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, Features, GateResult, Need, Pool, Runtime, Spec

_TINY_DISTANCE = 1e-9


class MinQuality(Component):
    """Keeps synthetic images that are as realistic as unseen real ones."""

    class Config(ComponentConfig):
        """Space and limits."""

        space: Spec = Spec(use="efficientnet_lite0")
        """Feature space of the distances."""
        nearest_k: int = Field(default=3, ge=1)
        """Which neighbour a shown image reaches to."""
        tail_share: float = Field(default=0.01, gt=0.0, le=0.5)
        """Share of unseen real images that would be dropped; with M < 1/tail_share unseen groups it is 1/(M + 1)."""
        min_kept_share: float = Field(default=0.5, ge=0.0, le=1.0)
        """A pool of which a smaller share is kept is rejected. The share is that of these very images, without an
        interval: they are what would be used."""

        @classmethod
        def tiny(cls) -> Self:
            """A small input for the feature network."""
            return cls(space=Spec(use="efficientnet_lite0", config={"resolution": 32, "batch_size": 4}))

        def needs(self) -> tuple[Need, ...]:
            """The feature space."""
            return (Features(self.space),)

    config: Config

    def judge(self, pool: Pool, *, shown: ImageSet, unseen: ImageSet, seed: int, runtime: Runtime) -> GateResult:
        """Score the pool and unseen images against the shown ones.

        Numbers: `num_dropped`, `expected_dropped` of as many real images; `kept_share` with `kept_share_low` and
        `kept_share_high`, the exact 95 % interval of the generator's share; `num_unseen_groups`; and, named by the
        space, `realism_threshold`, `realism_median` of the pool and `realism_median_unseen`.

        Raises:
            ValueError: the pool or `unseen` is empty, or `shown` holds no `nearest_k` neighbours of an image.
        """
        self._check_sizes(pool, shown, unseen)
        space = self.config.space
        x, y, z = (runtime.features(images, space) for images in (pool.images, shown, unseen))
        centers, radii = spheres(y, self.config.nearest_k)
        null = realism(z[one_per_group(unseen.groups, seed)], centers, radii)
        scores = realism(x, centers, radii)
        limit, rank = threshold(null, self.config.tail_share)
        keep = scores >= limit
        kept_share, (low, high) = float(keep.mean()), clopper_pearson(int(keep.sum()), len(pool))
        numbers = {
            "num_dropped": float((~keep).sum()), "expected_dropped": len(pool) * rank / (len(null) + 1),
            "kept_share": kept_share, "kept_share_low": low, "kept_share_high": high,
            "num_unseen_groups": float(len(null)), f"realism_threshold_{space.use}": limit,
            f"realism_median_{space.use}": float(np.median(scores)),
            f"realism_median_unseen_{space.use}": float(np.median(null)),
        }  # fmt: skip
        passed = kept_share >= self.config.min_kept_share
        reason = (
            f"unlike real images: {int((~keep).sum())} of {len(pool)} images are less realistic in {space.use} than "
            f"{rank / (len(null) + 1):.1%} of unseen real ones; {kept_share:.1%} are kept, min_kept_share is "
            f"{self.config.min_kept_share:.1%}"
        )
        return GateResult(keep, passed, "" if passed else reason, numbers)

    def _check_sizes(self, pool: Pool, shown: ImageSet, unseen: ImageSet) -> None:
        if not len(pool) or not len(unseen):
            raise ValueError(f"min_quality needs a pool and unseen images, got {len(pool)} and {len(unseen)}")
        if len(shown) <= self.config.nearest_k:
            raise ValueError(f"min_quality: nearest_k is {self.config.nearest_k}, got only {len(shown)} shown images")


def spheres(real: np.ndarray, nearest_k: int) -> tuple[np.ndarray, np.ndarray]:
    """Centers (S, D) and radii (S,) of the half of the real features (N, D) that have the smaller radii."""
    radii = np.empty(len(real))
    for rows, distances in blocks(real, real):
        distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
        radii[rows] = np.partition(distances, nearest_k - 1, axis=1)[:, nearest_k - 1]
    small = radii <= np.median(radii)
    return real[small], radii[small]


def realism(x: np.ndarray, centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Realism (N,) of the features x (N, D)."""
    scores = np.empty(len(x))
    for rows, distances in blocks(x, centers):
        scores[rows] = (radii / np.maximum(distances, _TINY_DISTANCE)).max(axis=1)
    return scores
