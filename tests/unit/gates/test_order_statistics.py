"""Intervals and tail probabilities of the gates against scipy and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medsynth_ray.gates._distances import blocks
from medsynth_ray.gates._order_statistics import auc_below, auc_interval, one_per_group, tail_p_value, threshold
from medsynth_ray.gates._shares import clopper_pearson, wilson


@pytest.mark.parametrize(("count", "num"), [(0, 31), (4, 31), (31, 31), (700, 900), (1, 1)])
@pytest.mark.parametrize(("interval", "method"), [(wilson, "wilson"), (clopper_pearson, "exact")])
def test_intervals_agree_with_scipy(interval, method: str, count: int, num: int) -> None:
    expected = stats.binomtest(count, num).proportion_ci(0.95, method=method)
    assert interval(count, num) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_interval_of_the_radiologist_is_the_one_in_the_paper() -> None:
    assert wilson(4, 31) == pytest.approx((0.051, 0.289), abs=5e-4)


def test_nothing_seen_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("num", "rank", "num_null"), [(1, 3, 99), (400, 1, 30), (50, 20, 40)])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_tail_p_value_agrees_with_scipy(num: int, rank: int, num_null: int, share: float) -> None:
    count = round(share * num)
    expected = stats.betabinom.sf(count - 1, num, rank, num_null + 1 - rank)
    assert tail_p_value(count, num, rank, num_null) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(("num_null", "share", "rank"), [(99, 0.01, 1), (198, 0.01, 1), (199, 0.01, 2), (20, 0.01, 1)])
def test_threshold_is_an_order_statistic(num_null: int, share: float, rank: int) -> None:
    null = np.random.default_rng(0).permutation(num_null).astype(float)
    assert threshold(null, share) == (rank - 1.0, rank)


def test_auc_counts_ties_half() -> None:
    assert auc_below(np.array([1.0, 2.0]), np.array([2.0, 3.0])) == pytest.approx(3.5 / 4)
    assert auc_below(np.zeros(3), np.ones(4)) == 1.0


def test_auc_is_mann_whitneys() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 40), rng.integers(2, 11, 30)
    assert auc_below(x, y) == pytest.approx(stats.mannwhitneyu(y, x).statistic / 1200)


@pytest.mark.parametrize(("shift", "num_x", "num_y"), [(0.0, 60, 20), (1.0, 30, 30), (2.5, 40, 25)])
def test_auc_interval_covers(shift: float, num_x: int, num_y: int) -> None:
    rng, truth = np.random.default_rng(0), stats.norm.cdf(shift / np.sqrt(2))
    covered = 0
    for _ in range(600):
        auc = auc_below(rng.normal(size=num_x), rng.normal(shift, 1.0, num_y))
        low, high = auc_interval(auc, num_x, num_y)
        covered += low <= truth <= high
    assert 0.925 < covered / 600 < 0.99


def test_interval_of_a_perfect_auc_has_a_width() -> None:
    low, high = auc_interval(1.0, 20, 20)
    assert high == 1.0
    assert 0.8 < low < 0.95
    assert auc_interval(0.0, 20, 20) == pytest.approx((0.0, 1.0 - low))


def test_one_image_of_each_group() -> None:
    groups = np.array(["b", "a", "b", "c", "a"])
    picks = [one_per_group(groups, seed) for seed in range(20)]
    assert all(sorted(groups[rows]) == ["a", "b", "c"] for rows in picks)
    assert {tuple(rows) for rows in picks} == {(0, 1, 3), (0, 3, 4), (1, 2, 3), (2, 3, 4)}


def test_blocks_are_all_distances() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(7.0, 1.0, (1100, 5)), rng.normal(7.0, 1.0, (9, 5))
    found = np.concatenate([distances for _, distances in blocks(x, y)])
    assert found == pytest.approx(np.linalg.norm(x[:, None] - y, axis=2), abs=1e-9)
    assert [(rows.start, rows.stop) for rows, _ in blocks(x, y)] == [(0, 512), (512, 1024), (1024, 1100)]
