"""scipy and published numbers as oracles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medsynth_ray.stats.intervals import callable_images, callable_pairs, mean_interval, share_difference, wilson


@pytest.mark.parametrize(("hits", "num"), [(126, 140), (42, 75), (0, 30), (30, 30), (1, 1), (645, 900)])
def test_wilson_is_that_of_scipy(hits: int, num: int) -> None:
    expected = stats.binomtest(hits, num).proportion_ci(0.95, method="wilson")
    assert wilson(hits / num, num) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("share", "num"), [(0.5, 0), (1.01, 10), (-0.1, 10), (71.67, 900)])
def test_what_is_no_share_is_refused(share: float, num: int) -> None:
    with pytest.raises(ValueError, match=f"got {share} of {num}"):
        wilson(share, num)


@pytest.mark.parametrize(
    ("first", "second", "num", "expected"),
    [
        (100 / 140, 126 / 140, 140, (-0.2747256627045006, -0.09421542173872838)),
        (0.5, 0.5, 10, (-0.3725136, 0.3725136)),
    ],
)
def test_share_difference_is_newcombes(first: float, second: float, num: int, expected: tuple[float, float]) -> None:
    """statsmodels 0.15 (`confint_proportions_2indep`, newcomb); of equal shares: sqrt(2) Wilson half widths."""
    found = share_difference(first, second, num)
    assert found == pytest.approx(expected, abs=1e-5)
    low, high = share_difference(second, first, num)
    assert found == pytest.approx((-high, -low))


def test_share_difference_covers_what_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.binomial(140, [0.9, 0.85], (4000, 2)) / 140
    spans = np.array([share_difference(a, b, 140) for a, b in draws])
    assert np.mean((spans[:, 0] <= 0.05) & (spans[:, 1] >= 0.05)) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("share", "num", "expected"), [(0.9, 140, 9), (0.56, 75, 12), (0.7167, 900, 37), (0.9, 20, None)]
)
def test_callable_images_is_the_first_that_leaves_0_out(share: float, num: int, expected: int | None) -> None:
    found = callable_images(share, num)
    assert found == expected
    if found is not None:
        assert share_difference(share + found / num, share, num)[0] > 0
        assert share_difference(share + (found - 1) / num, share, num)[0] <= 0


def test_callable_pairs_is_the_first_that_mcnemar_calls() -> None:
    """Exact McNemar is a two-sided sign test of the images that changed."""
    assert callable_pairs() == 6
    assert stats.binomtest(0, 6).pvalue <= 0.05 < stats.binomtest(0, 5).pvalue
    assert callable_pairs(0.01) == 8


def test_mean_interval_is_students() -> None:
    values = [0.71, 0.74, 0.69, 0.75]
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx((np.mean(values), *expected))


@pytest.mark.parametrize("values", [[0.7], [0.7, 0.7, 0.7]])
def test_repeats_that_do_not_differ_have_no_interval(values: list[float]) -> None:
    assert mean_interval(values) == (0.7, None, None)


def test_a_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([])
