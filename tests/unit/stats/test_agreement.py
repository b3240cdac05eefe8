"""Kappas against textbook tables and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.stats.agreement import cohen_kappa, fleiss_kappa

FLEISS_1971 = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip
"""The table of the Wikipedia article on Fleiss' kappa: 10 subjects, 14 raters, 5 categories."""


def unrolled(table: list[list[int]]) -> np.ndarray:
    return np.array([np.repeat(np.arange(len(row)), row) for row in table])


def test_cohen_of_a_two_by_two_table() -> None:
    first, second = np.repeat([1, 1, 0, 0], [20, 5, 10, 15]), np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_fleiss_of_a_textbook_table() -> None:
    assert fleiss_kappa(unrolled(FLEISS_1971)) == pytest.approx(0.210, abs=5e-4)


@pytest.mark.parametrize("seed", range(4))
def test_same_as_statsmodels(seed: int) -> None:
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, 60)
    ratings = np.stack([np.where(rng.random(60) < 0.6, truth, rng.integers(0, 3, 60)) for _ in range(4)], axis=1)
    table, _ = inter_rater.aggregate_raters(ratings)
    assert fleiss_kappa(ratings) == pytest.approx(inter_rater.fleiss_kappa(table), abs=1e-12)
    crossed = np.zeros((3, 3))
    np.add.at(crossed, (ratings[:, 0], ratings[:, 1]), 1)
    expected = inter_rater.cohens_kappa(crossed).kappa
    assert cohen_kappa(ratings[:, 0], ratings[:, 1]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("first", "second", "kappa"), [
    ([0, 1, 2], [0, 1, 2], 1.0), ([0, 1], [1, 0], -1.0), ([1, 1], [1, 1], None), ([], [], None),
])  # fmt: skip
def test_ends_of_the_scale(first: list[int], second: list[int], kappa: float | None) -> None:
    assert cohen_kappa(np.array(first), np.array(second)) == kappa
    assert fleiss_kappa(np.array([first, second]).T.reshape(-1, 2)) == kappa


def test_shapes_that_clash_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        cohen_kappa(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="at least 2 readers"):
        fleiss_kappa(np.zeros((4, 1)))
