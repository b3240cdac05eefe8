"""The plain sampler."""

from __future__ import annotations

import pytest

from medsynth_ray.samplers.all_real import AllReal
from medsynth_ray.testing import LocalRuntime, toy_images


@pytest.mark.parametrize("seed", [0, 1])
def test_the_only_part_is_train(seed: int) -> None:
    train = toy_images()
    assert AllReal(AllReal.Config()).select(train, seed=seed, runtime=LocalRuntime()) == (train,)


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no image"):
        AllReal(AllReal.Config()).select(toy_images((0, 0)), seed=0, runtime=LocalRuntime())
