"""One part for each class."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.images import concat
from medsynth_ray.samplers.per_class import PerClass
from medsynth_ray.testing import LocalRuntime, toy_images


@pytest.mark.parametrize(("counts", "labels"), [((5, 3, 2), [0, 1, 2]), ((4, 0, 2), [0, 2]), ((0, 7), [1])])
def test_each_class_with_images_is_one_part(counts: tuple[int, ...], labels: list[int]) -> None:
    parts = PerClass(PerClass.Config()).select(toy_images(counts), seed=0, runtime=LocalRuntime())
    assert [np.unique(part.labels).tolist() for part in parts] == [[label] for label in labels]
    assert [len(part) for part in parts] == [counts[label] for label in labels]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_parts_are_all_of_train_in_its_order(seed: int) -> None:
    train = toy_images((5, 3))
    parts = PerClass(PerClass.Config()).select(train, seed=seed, runtime=LocalRuntime())
    assert sorted(concat(parts).ids) == sorted(train.ids)
    assert [part.ids.tolist() for part in parts] == [train.ids[train.labels == c].tolist() for c in (0, 1)]
    assert {part.class_names for part in parts} == {train.class_names}


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="per_class: the training set holds no image"):
        PerClass(PerClass.Config()).select(toy_images((0, 0)), seed=0, runtime=LocalRuntime())
