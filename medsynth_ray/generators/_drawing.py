"""What drawing has in common: shards of bounded size, and the order in which source images are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from medsynth_ray.errors import Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, Draw, PoolShard, Runtime
from medsynth_ray.seeds import rng


def in_shards(
    draw: Draw, paint: Callable[[Draw], PoolShard], *, runtime: Runtime, shard_images: int = 128
) -> Iterator[PoolShard]:
    """Yield `paint(part)` for consecutive parts of at most `shard_images` images, with progress.

    Raises:
        Stopped: the runtime asked for it between two parts.
    """
    for start in range(0, len(draw), shard_images):
        if runtime.stopped():
            raise Stopped(f"stopped after {start} of {len(draw)} images")
        part = draw.slice(start, start + shard_images)
        yield paint(part)
        runtime.progress(start + len(part), len(draw), "images drawn")


def source_rows(draw: Draw, sources: ImageSet) -> np.ndarray:
    """Row of the source of each image: int64 (N,), depending on the image's label and index alone.

    Round r of class c is a permutation of the class seeded by (c, r): n_c images use each of the n_c sources once.

    Raises:
        ValueError: a class has no source image.
    """
    rows = np.empty(len(draw), dtype=np.int64)
    for label in np.unique(draw.labels):
        own = np.flatnonzero(sources.labels == label)
        if not len(own):
            raise ValueError(f"no source image of class {int(label)}; there are {np.unique(sources.labels)}")
        here = np.flatnonzero(draw.labels == label)
        rounds, places = np.divmod(draw.indices[here], len(own))
        for turn in np.unique(rounds):
            order = rng("sources", int(label), int(turn)).permutation(len(own))
            rows[here[rounds == turn]] = own[order[places[rounds == turn]]]
    return rows


class FromSources(Component):
    """A generator that learns nothing and never runs out: every image is made from a shown one."""

    needs_sources: ClassVar[bool] = True
    fitted_on_unknown: ClassVar[bool] = False

    def fit(self, shown: ImageSet, *, seed: int, runtime: Runtime) -> None:
        """Learn nothing: the images come from `sources`."""

    def capacity(self, label: int) -> int | None:
        """Return None: any number."""
        return None

    def save(self, folder: Path) -> None:
        """Write config.json; there is nothing else."""
        self.save_config(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls.from_config_of(folder)
