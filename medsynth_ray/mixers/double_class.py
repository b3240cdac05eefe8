"""As many synthetic images as there are real ones, in chosen classes: "we doubled the size of the selected classes".

So seed studies of diffusion models did (e.g. each glioma class of an MRI data set), in place of a search for the ratio.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from medsynth_ray.images import ImageSet
from medsynth_ray.mixers._joining import joined, refuse_ratio
from medsynth_ray.protocols import Component, ComponentConfig, Pool

Label = Annotated[int, Field(ge=0)]


class DoubleClass(Component):
    """Doubles the smallest class, all classes, or those named by their labels; the real images all stay."""

    takes_ratio: ClassVar[bool] = False

    class Config(ComponentConfig):
        """Which classes are doubled."""

        classes: Literal["minority", "all"] | Annotated[tuple[Label, ...], Field(min_length=1)] = "minority"
        """minority: the class with the fewest real images (several if equal, one without any never). all: every class.
        Or a list of labels: places in the data set's sorted class names, from 0."""

        @field_validator("classes")
        @classmethod
        def _named_once(cls, value: str | tuple[int, ...]) -> str | tuple[int, ...]:
            if not isinstance(value, str) and len(set(value)) < len(value):
                raise ValueError("each label may stand there once")
            return value

    config: Config

    def demand(self, counts: np.ndarray, *, ratio: float | None) -> np.ndarray:
        """Return n_c for the chosen classes, 0 for the others.

        Raises:
            ValueError: a ratio is given, or a label that the data do not have.
        """
        refuse_ratio("double_class", ratio)
        demand: np.ndarray = np.where(self._chosen(counts), counts, 0).astype(np.int64)
        return demand

    def mix(self, real: ImageSet, pool: Pool, *, ratio: float | None, seed: int) -> ImageSet:
        """Return the real images, then the synthetic ones; nothing is drawn.

        Raises:
            ValueError: a ratio is given, a label that the data do not have, or the pool is too small.
        """
        return joined(real, pool, self.demand(real.counts(), ratio=ratio))

    def _chosen(self, counts: np.ndarray) -> np.ndarray:
        """Which classes are doubled: bool (K,)."""
        classes = self.config.classes
        if classes == "all":
            return np.ones(len(counts), dtype=bool)
        if classes == "minority":
            fewest: np.ndarray = counts == counts[counts > 0].min(initial=np.iinfo(np.int64).max)
            return fewest
        if max(classes) >= len(counts):
            raise ValueError(f"double_class: classes must be labels below {len(counts)}, got {max(classes)}")
        return np.isin(np.arange(len(counts)), classes)
