"""Naive loops as oracle; unbiasedness, coverage and p values under a simulated null."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.metrics.kid import Kid, jackknife_error, kid_of, permutation_p, polynomial_kernel
from medsynth_ray.protocols import Measured
from medsynth_ray.seeds import rng as seeded

X, Y = np.random.default_rng(0).normal(size=(6, 5)), np.random.default_rng(1).normal(0.5, 1.5, size=(4, 5))
NUM_SIMULATIONS = 300


def naive_kid(x: np.ndarray, y: np.ndarray) -> float:
    def mean(rows: np.ndarray, columns: np.ndarray, *, skip_equal: bool) -> float:
        values = [
            (np.dot(u, v) / len(u) + 1) ** 3
            for i, u in enumerate(rows)
            for j, v in enumerate(columns)
            if not (skip_equal and i == j)
        ]
        return float(np.mean(values))

    return mean(x, x, skip_equal=True) + mean(y, y, skip_equal=True) - 2 * mean(x, y, skip_equal=False)


def measured(n: int, m: int, *, shift: float, seed: int) -> Measured:
    """Two samples of one law with a falling spectrum, the second one shifted."""
    rng = np.random.default_rng(seed)
    scale = 3.0 / np.sqrt(np.arange(1, 17))
    real, drawn = rng.normal(size=(n, 16)) * scale, (rng.normal(size=(m, 16)) + shift) * scale
    return Kid(Kid.Config(num_permutations=99)).measure(real, drawn, space="toy", seed=seed)


@pytest.fixture(scope="module")
def null() -> list[Measured]:
    return [measured(50, 40, shift=0.0, seed=s) for s in range(NUM_SIMULATIONS)]


def test_kid_is_the_mean_over_pairs() -> None:
    assert kid_of(polynomial_kernel(np.concatenate([X, Y])), 6) == pytest.approx(naive_kid(X, Y), rel=1e-12)


def test_the_jackknife_leaves_one_out() -> None:
    without_x = np.array([naive_kid(np.delete(X, i, axis=0), Y) for i in range(6)])
    without_y = np.array([naive_kid(X, np.delete(Y, i, axis=0)) for i in range(4)])
    variance = 5 / 6 * np.sum((without_x - without_x.mean()) ** 2) + 3 / 4 * np.sum((without_y - without_y.mean()) ** 2)
    assert jackknife_error(polynomial_kernel(np.concatenate([X, Y])), 6) == pytest.approx(np.sqrt(variance), rel=1e-10)


def test_p_counts_relabellings_that_are_as_far_apart() -> None:
    pooled = np.concatenate([X, Y])
    p = permutation_p(polynomial_kernel(pooled), 6, num_permutations=49, rng=np.random.default_rng(5))
    labels = np.random.default_rng(5).permuted(np.tile(np.arange(10) < 6, (49, 1)), axis=1)
    far = [naive_kid(pooled[first], pooled[~first]) >= naive_kid(X, Y) - 1e-9 for first in labels]
    assert p == pytest.approx((1 + sum(far)) / 50)


def test_it_is_unbiased_at_small_n(null: list[Measured]) -> None:
    values = np.array([m.value for m in null])
    assert abs(values.mean()) < 3 * values.std(ddof=1) / np.sqrt(NUM_SIMULATIONS)
    assert values.min() < 0 < values.max()


def test_the_interval_covers_0_under_the_null(null: list[Measured]) -> None:
    assert np.mean([m.low <= 0 <= m.high for m in null]) >= 0.93
    # Where the first-order terms vanish the jackknife counts the second-order ones twice: sqrt(2) too wide, not more.
    ratio = np.mean([m.details["standard_error"] for m in null]) / np.std([m.value for m in null], ddof=1)
    assert 0.9 < ratio < 1.7


def test_p_is_uniform_under_the_null(null: list[Measured]) -> None:
    p = np.array([m.details["p"] for m in null])
    assert np.mean(p <= 0.05) <= 0.08
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=0.1)


def test_the_interval_covers_the_true_distance_of_a_shift() -> None:
    shifted = [measured(60, 60, shift=0.5, seed=s) for s in range(200)]
    truth = np.mean([measured(1000, 1000, shift=0.5, seed=s).value for s in range(1000, 1005)])
    assert 0.90 <= np.mean([m.low <= truth <= m.high for m in shifted]) <= 0.99
    assert np.mean([m.details["p"] for m in shifted]) < 0.02


def test_equal_sets_give_no_evidence() -> None:
    same = np.random.default_rng(0).normal(size=(30, 8))
    found = Kid(Kid.Config()).measure(same, same, space="toy", seed=0)
    assert found.name == "kid_toy"
    assert found.value <= 0
    assert found.details["p"] > 0.5


def test_a_large_side_is_cut_by_the_seed() -> None:
    real, drawn = np.random.default_rng(0).normal(size=(2, 50, 8))
    values = [Kid(Kid.Config(max_images=30)).measure(real, drawn, space="toy", seed=s).value for s in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


def two_samples(n: int, m: int, *, dim: int = 16) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.normal(size=(n, dim)), rng.normal(size=(m, dim))


def test_the_floor_is_real_against_real() -> None:
    real, drawn = two_samples(80, 200)
    details = Kid(Kid.Config(num_floor_splits=1)).measure(real, drawn, space="toy", seed=5).details
    order = seeded("kid floor", 5).permutation(80)
    expected = kid_of(polynomial_kernel(real[order]), 40)
    assert details["floor"] == details["floor_high"] == pytest.approx(expected, rel=1e-9)


def test_the_floor_scatters_around_0() -> None:
    found = [
        Kid(Kid.Config(num_permutations=19)).measure(
            *(x + 3.0 * i for i, x in enumerate(two_samples(90, 90))), space="t", seed=s
        )
        for s in range(40)
    ]
    floors = np.array([m.details["floor"] for m in found])
    assert abs(floors.mean()) < 0.02 * found[0].value
    assert floors.min() < 0 < floors.max()
    assert all(m.details["floor_high"] >= m.details["floor"] for m in found)


@pytest.mark.parametrize(("n", "m", "has_floor"), [(39, 90, False), (40, 90, True), (90, 20, True)])
def test_there_is_no_floor_below_the_least_n(n: int, m: int, has_floor: bool) -> None:
    details = Kid(Kid.Config(num_permutations=19)).measure(*two_samples(n, m), space="toy", seed=0).details
    assert ({"floor", "floor_high"} <= set(details)) == has_floor
    assert {"p", "standard_error"} <= set(details)


@pytest.mark.parametrize("num_floor_splits", [0, 1, 9])
def test_the_floor_leaves_the_number_as_it_is(num_floor_splits: int) -> None:
    real, drawn = two_samples(60, 60)
    with_5, other = (
        Kid(Kid.Config(num_floor_splits=num)).measure(real, drawn, space="toy", seed=1) for num in (5, num_floor_splits)
    )
    assert (with_5.value, with_5.low, with_5.high) == (other.value, other.low, other.high)
    assert with_5.details["p"] == other.details["p"]


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="synthetic holds 19 images, this metric needs at least 20"):
        Kid(Kid.Config()).measure(np.ones((40, 4)), np.ones((19, 4)), space="toy", seed=0)
