"""All real training images are shown, in one part: the plain case, and the default."""

from __future__ import annotations

from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, Runtime


class AllReal(Component):
    """Shows the generator every training image."""

    class Config(ComponentConfig):
        """There is nothing to set."""

    def select(self, train: ImageSet, *, seed: int, runtime: Runtime) -> tuple[ImageSet, ...]:
        """Return `train` as the only part.

        Raises:
            ValueError: `train` is empty.
        """
        if not len(train):
            raise ValueError("all_real: the training set holds no image, at least 1 is needed")
        return (train,)
