"""Few images that stand for all: k-center greedy (Sener and Savarese, ICLR 2018, arXiv 1708.00489, algorithm 1).

Every image is then within twice the smallest possible radius of a chosen one. The start, which the paper leaves open,
is the medoid.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, Features, Need, Runtime, Spec


class Coreset(Component):
    """Shows a part of every class, spread as evenly as can be, in one part.

    What was chosen is reported at step 0: `coreset/<class>/size`, `coreset/<class>/radius` (the largest distance of an
    image of the class to a chosen one).
    """

    class Config(ComponentConfig):
        """How many images, and where they are near or far."""

        space: Spec = Spec(use="efficientnet_lite0")
        """Feature space in which distances (L2) are taken."""
        share: float = Field(default=0.5, gt=0.0, le=1.0)
        """Share of each class, rounded up."""
        num_images: int | None = Field(default=None, ge=1)
        """At most so many images of each class; None: as many as `share` says."""

        def needs(self) -> tuple[Need, ...]:
            """Features of the shown images."""
            return (Features(self.space),)

        @classmethod
        def tiny(cls) -> Coreset.Config:
            """Features at 32 px."""
            return cls(space=Spec(use="efficientnet_lite0", config={"resolution": 32}))

    config: Config

    def select(self, train: ImageSet, *, seed: int, runtime: Runtime) -> tuple[ImageSet, ...]:
        """Return the chosen images of all classes as the only part, in their order; nothing is drawn.

        Raises:
            ValueError: `train` is empty.
        """
        if not len(train):
            raise ValueError("coreset: the training set holds no image, at least 1 is needed")
        features = runtime.features(train, self.config.space)
        chosen = []
        for label in np.flatnonzero(train.counts()):
            rows = np.flatnonzero(train.labels == label)
            picked, radius = k_center(features[rows], self._size(len(rows)))
            name = f"coreset/{train.class_names[label]}"
            runtime.report({f"{name}/size": float(len(picked)), f"{name}/radius": radius}, step=0)
            chosen.append(rows[picked])
        return (train.take(np.sort(np.concatenate(chosen))),)

    def _size(self, num_class: int) -> int:
        size = math.ceil(self.config.share * num_class - 1e-9)
        return min(size, self.config.num_images or size)


def k_center(features: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    """Choose k of float (N, D), each the farthest from those before, the medoid first: int64 (k,) and the radius.

    The radius is the largest distance of a row to the nearest chosen one, at most twice what any k rows could reach.

    Raises:
        ValueError: `k` is not in [1, N].
    """
    if not 1 <= k <= len(features):
        raise ValueError(f"k must be in [1, {len(features)}], got {k}")
    points = features.astype(np.float64)
    # The row nearest to the mean has the smallest sum of squared distances to all rows.
    chosen = [int(_squared(points, points.mean(axis=0)).argmin())]
    nearest = _squared(points, points[chosen[0]])
    while len(chosen) < k:
        nearest[chosen[-1]] = -1.0  # of equal images, each is still chosen once at most
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _squared(points, points[chosen[-1]]))
    nearest[chosen] = 0.0
    return np.array(chosen, dtype=np.int64), math.sqrt(float(nearest.max()))


def _squared(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Squared distances float64 (N,) of float64 (N, D) to one point."""
    distances: np.ndarray = np.square(points - centre).sum(axis=1)
    return distances
