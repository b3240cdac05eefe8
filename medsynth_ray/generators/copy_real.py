"""Copies of shown images: what the privacy gate must reject, and the "real oversampled" control of the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

from medsynth_ray.generators._drawing import in_shards, source_rows
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, Draw, GeneratorConfig, PoolShard, Runtime


class CopyReal(Component):
    """Draws each shown image of the class once, in a shuffled order, and then again; the image's seed plays no part."""

    needs_sources: ClassVar[bool] = True
    fitted_on_unknown: ClassVar[bool] = False

    class Config(GeneratorConfig):
        """There is nothing to set."""

    def fit(self, shown: ImageSet, *, seed: int, runtime: Runtime) -> None:
        """Learn nothing: the images come from `sources`."""

    def capacity(self, label: int) -> int | None:
        """Return None: copies do not run out."""
        return None

    def sample(self, draw: Draw, *, sources: ImageSet | None, runtime: Runtime) -> Iterator[PoolShard]:
        """Yield copies of `sources`.

        Raises:
            ValueError: there is no source image, or none of a class.
        """
        if sources is None:
            raise ValueError("copy_real needs sources: the shown images")

        def paint(part: Draw) -> PoolShard:
            rows = source_rows(part, sources)
            return PoolShard(sources.pixels[rows], sources.ids[rows])

        yield from in_shards(draw, paint, runtime=runtime)

    def save(self, folder: Path) -> None:
        """Write config.json; there is nothing else."""
        self.save_config(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        return cls.from_config_of(folder)
