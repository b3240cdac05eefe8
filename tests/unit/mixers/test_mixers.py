"""Mixers: counts in closed form, order, and which real images stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medsynth_ray.contracts._runs import toy_pool
from medsynth_ray.mixers.add import Add
from medsynth_ray.mixers.balance import Balance
from medsynth_ray.mixers.replace import Replace
from medsynth_ray.testing import toy_images


def mixer(kind: type[Any]) -> Any:
    return kind(kind.Config())


@pytest.mark.parametrize(
    ("kind", "counts", "ratio", "demand"),
    [
        (Add, (9, 4, 0), 0.0, [0, 0, 0]),
        (Add, (9, 4, 0), 0.5, [9, 4, 0]),
        (Add, (9, 4, 0), 0.25, [3, 1, 0]),
        (Add, (9, 4, 0), 0.9, [81, 36, 0]),
        (Replace, (9, 4, 1), 0.0, [0, 0, 0]),
        (Replace, (8, 4, 1), 0.5, [4, 2, 0]),
        (Replace, (9, 4, 1), 0.99, [8, 3, 0]),
        (Replace, (9, 4, 0), 0.5, [4, 2, 0]),
        (Balance, (9, 4, 0), None, [0, 5, 9]),
        (Balance, (5, 5), None, [0, 0]),
        (Balance, (), None, []),
    ],
)
def test_demand(kind: type[Any], counts: tuple[int, ...], ratio: float | None, demand: list[int]) -> None:
    assert mixer(kind).demand(np.array(counts, dtype=np.int64), ratio=ratio).tolist() == demand


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.75])
def test_ratio_is_the_share_of_synthetic_images(ratio: float) -> None:
    real, pool = toy_images((40, 20)), toy_pool((150, 90))
    for kind in (Add, Replace):
        mixed = mixer(kind).mix(real, pool, ratio=ratio, seed=0)
        assert np.isin(mixed.ids, pool.images.ids).mean() == pytest.approx(ratio, abs=0.02)


@pytest.mark.parametrize(("kind", "ratio"), [(Add, 0.5), (Replace, 0.5), (Balance, None)])
def test_real_images_come_first_in_their_order(kind: type[Any], ratio: float | None) -> None:
    real, pool = toy_images((9, 4)), toy_pool((30, 30))
    mixed = mixer(kind).mix(real, pool, ratio=ratio, seed=0)
    synthetic = np.isin(mixed.ids, pool.images.ids)
    assert np.diff(synthetic.astype(int)).min() >= 0
    kept = mixed.ids[~synthetic].tolist()
    assert kept == [i for i in real.ids.tolist() if i in set(kept)]


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9])
def test_replace_keeps_the_size_of_each_class(ratio: float) -> None:
    real = toy_images((20, 7))
    assert mixer(Replace).mix(real, toy_pool((20, 7)), ratio=ratio, seed=0).counts().tolist() == [20, 7]


def test_replace_keeps_nested_real_images_chosen_by_seed() -> None:
    real, pool = toy_images((20, 7)), toy_pool((20, 7))
    kept = {
        (seed, ratio): set(mixer(Replace).mix(real, pool, ratio=ratio, seed=seed).ids) & set(real.ids)
        for seed in (0, 1)
        for ratio in (0.2, 0.5, 0.9)
    }
    assert kept[0, 0.9] < kept[0, 0.5] < kept[0, 0.2]
    assert kept[0, 0.5] != kept[1, 0.5]


def test_replace_never_takes_the_last_real_image() -> None:
    mixed = mixer(Replace).mix(toy_images((5, 1)), toy_pool((9, 9)), ratio=0.95, seed=0)
    assert np.char.startswith(mixed.ids, "toy/").sum() == 2


def test_pool_that_is_too_small_is_told_with_numbers() -> None:
    with pytest.raises(ValueError, match=r"class_1': \(2, 4\)"):
        mixer(Add).mix(toy_images((9, 4)), toy_pool((9, 2)), ratio=0.5, seed=0)


@pytest.mark.parametrize("wrong", [1.0, -0.2, float("nan"), None])
@pytest.mark.parametrize(("kind", "name"), [(Add, "add"), (Replace, "replace")])
def test_ratio_out_of_range_is_refused(kind: type[Any], name: str, wrong: float | None) -> None:
    with pytest.raises(ValueError, match=rf"{name}: ratio must be in \[0, 1\), got {wrong}"):
        mixer(kind).demand(np.array([3]), ratio=wrong)


def test_balance_takes_no_ratio() -> None:
    with pytest.raises(ValueError, match="takes no ratio"):
        mixer(Balance).demand(np.array([3]), ratio=0.5)
