"""One part for each class: a generator that knows no labels is fitted once for every class, as in arXiv 2506.21015."""

from __future__ import annotations

import numpy as np

from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, Runtime


class PerClass(Component):
    """Shows each generator the images of one class; a class without an image gets no generator."""

    class Config(ComponentConfig):
        """There is nothing to set."""

    def select(self, train: ImageSet, *, seed: int, runtime: Runtime) -> tuple[ImageSet, ...]:
        """Return one part for each class that has images, in the order of the classes.

        Raises:
            ValueError: `train` is empty.
        """
        if not len(train):
            raise ValueError("per_class: the training set holds no image, at least 1 is needed")
        return tuple(train.of_class(int(label)) for label in np.flatnonzero(train.counts()))
