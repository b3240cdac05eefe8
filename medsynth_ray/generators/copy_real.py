"""Copies of shown images: what the privacy gate must reject, and the "real oversampled" control of the verdict."""

from __future__ import annotations

from collections.abc import Iterator

from medsynth_ray.generators._drawing import FromSources, in_shards, source_rows
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Draw, GeneratorConfig, PoolShard, Runtime


class CopyReal(FromSources):
    """Draws each shown image of the class once, in a shuffled order, and then again; the image's seed plays no part."""

    class Config(GeneratorConfig):
        """There is nothing to set."""

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
