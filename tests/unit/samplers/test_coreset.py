"""k-center greedy: closed forms, its guarantee against brute force, and every class kept."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Features, Spec
from medsynth_ray.samplers.coreset import Coreset, k_center
from medsynth_ray.testing import LocalRuntime, toy_images


class Line(LocalRuntime):
    """Features are places on a line, one for each image of the training set."""

    def __init__(self, places: np.ndarray) -> None:
        super().__init__()
        self._places = places

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        assert len(images) == len(self._places)
        return self._places[:, None].astype(np.float32)


def radius_of(points: np.ndarray, chosen: tuple[int, ...]) -> float:
    """The largest distance of a point to the nearest chosen one."""
    gaps = np.linalg.norm(points[:, None] - points[None, list(chosen)], axis=2)
    return float(gaps.min(axis=1).max())


@pytest.mark.parametrize(
    ("places", "k", "chosen", "radius"),
    [
        ([0, 1, 2, 3, 4], 1, [2], 2.0),
        ([0, 1, 2, 3, 4], 3, [2, 0, 4], 1.0),
        ([0, 1, 10, 11, 30], 3, [2, 4, 0], 1.0),
        ([5, 5, 5], 2, [0, 1], 0.0),
        ([0, 7], 2, [0, 1], 0.0),
    ],
)
def test_known_choices_on_a_line(places: list[float], k: int, chosen: list[int], radius: float) -> None:
    found, reached = k_center(np.array(places, dtype=float)[:, None], k)
    assert found.tolist() == chosen
    assert reached == pytest.approx(radius)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_the_radius_is_at_most_twice_the_best_possible(seed: int, k: int) -> None:
    points = np.random.default_rng(seed).normal(size=(10, 3))
    found, reached = k_center(points, k)
    best = min(radius_of(points, subset) for subset in itertools.combinations(range(10), k))
    assert len(set(found.tolist())) == k
    assert reached == pytest.approx(radius_of(points, tuple(found.tolist())))
    assert best - 1e-12 <= reached <= 2 * best + 1e-12


def test_the_start_is_the_medoid() -> None:
    points = np.random.default_rng(3).normal(size=(40, 5))
    sums = (np.linalg.norm(points[:, None] - points[None], axis=2) ** 2).sum(axis=1)
    assert k_center(points, 1)[0].tolist() == [int(sums.argmin())]


@pytest.mark.parametrize("k", [0, 4])
def test_a_size_that_cannot_be_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k must be in \[1, 3\], got {k}"):
        k_center(np.zeros((3, 2)), k)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"share": 1.0}, [10, 5, 1]),
        ({"share": 0.5}, [5, 3, 1]),
        ({"share": 0.1}, [1, 1, 1]),
        ({"share": 0.3}, [3, 2, 1]),
        ({"share": 1.0, "num_images": 3}, [3, 3, 1]),
        ({"share": 0.2, "num_images": 3}, [2, 1, 1]),
    ],
)
def test_every_class_keeps_its_share_and_at_least_one_image(settings: dict[str, Any], sizes: list[int]) -> None:
    train = toy_images((10, 5, 1))
    runtime = Line(np.arange(16.0))
    (part,) = Coreset(Coreset.Config(**settings)).select(train, seed=0, runtime=runtime)
    assert part.counts().tolist() == sizes
    said = {name: value for _, numbers in runtime.reports for name, value in numbers.items()}
    assert [said[f"coreset/class_{c}/size"] for c in range(3)] == sizes


def test_the_part_is_in_the_order_of_train_with_its_groups() -> None:
    train = toy_images((6, 4))
    grouped = ImageSet(train.pixels, train.labels, np.repeat(["a", "b"], 5), train.ids, train.class_names)
    (part,) = Coreset(Coreset.Config(share=0.5)).select(
        grouped, seed=0, runtime=Line(np.array([0, 1, 2, 3, 4, 9, 0, 5, 6, 7.0]))
    )
    rows = [grouped.ids.tolist().index(name) for name in part.ids.tolist()]
    assert rows == [0, 3, 5, 6, 7]
    assert part.groups.tolist() == ["a", "a", "b", "b", "b"]


def test_the_seed_changes_nothing() -> None:
    train, places = toy_images((12, 8)), np.random.default_rng(0).normal(size=20)
    chosen = {
        Coreset(Coreset.Config()).select(train, seed=seed, runtime=Line(places))[0].fingerprint for seed in range(3)
    }
    assert len(chosen) == 1


def test_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="coreset: the training set holds no image"):
        Coreset(Coreset.Config()).select(toy_images((0, 0)), seed=0, runtime=LocalRuntime())


def test_its_need_is_its_space() -> None:
    space = Spec(use="efficientnet_lite0", config={"resolution": 64})
    assert Coreset.Config(space=space).needs() == (Features(space),)
