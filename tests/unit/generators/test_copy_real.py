"""Copies: each shown image in turn."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.generators.copy_real import CopyReal
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Draw, PoolShard
from medsynth_ray.testing import LocalRuntime, toy_images


def copies(label: int, num: int, sources: ImageSet | None) -> PoolShard:
    draw = Draw(np.full(num, label), np.arange(num), np.arange(num, dtype=np.uint64))
    shards = list(CopyReal(CopyReal.Config()).sample(draw, sources=sources, runtime=LocalRuntime()))
    return PoolShard(np.concatenate([s.images for s in shards]), np.concatenate([s.source_ids for s in shards]))


@pytest.mark.parametrize(("label", "num_class"), [(0, 12), (1, 8)])
def test_each_round_gives_each_image_once(label: int, num_class: int) -> None:
    shown = toy_images((12, 8))
    shard = copies(label, 2 * num_class, shown)
    first, second = shard.source_ids[:num_class].tolist(), shard.source_ids[num_class:].tolist()
    assert sorted(first) == sorted(second) == sorted(shown.of_class(label).ids.tolist())
    assert first != second


def test_pixels_are_those_of_the_named_source() -> None:
    shown = toy_images((150, 4))
    shard = copies(0, 150, shown)
    rows = np.searchsorted(shown.ids, shard.source_ids)
    assert np.array_equal(shard.images, shown.pixels[rows])


@pytest.mark.parametrize(
    ("sources", "message"), [(None, "needs sources"), (toy_images((5, 0)), "no source image of class 1; there are")]
)
def test_missing_sources_are_refused(sources: ImageSet | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        copies(1, 3, sources)
