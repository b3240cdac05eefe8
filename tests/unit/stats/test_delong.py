"""Brute force over all pairs, Hanley and McNeil's closed form, and coverage under simulation as oracles."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.stats.delong import auc, auc_difference, delong, logit_interval


def brute_force(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's estimator as it is written: over all pairs, one image in each group."""
    kernel = np.array([np.sign(s[positive][:, None] - s[~positive][None, :]) / 2 + 0.5 for s in scores])
    above, below = kernel.mean(axis=2), kernel.mean(axis=1)
    return kernel.mean(axis=(1, 2)), np.cov(above) / above.shape[1] + np.cov(below) / below.shape[1]


def alone(num: int) -> np.ndarray:
    return np.arange(num).astype(str)


@pytest.mark.parametrize(("num", "decimals"), [(11, 9), (40, 1), (123, 0), (300, 2)])
def test_it_is_the_sum_over_all_pairs(num: int, decimals: int) -> None:
    rng = np.random.default_rng(num)
    positive = rng.random(num) < 0.4
    scores = np.round(rng.normal(size=(3, num)) + positive, decimals)
    areas, covariance = delong(scores, positive, alone(num))
    expected = brute_force(scores, positive)
    np.testing.assert_allclose(areas, expected[0], atol=1e-13)
    np.testing.assert_allclose(covariance, expected[1], atol=1e-13)


def test_a_known_area() -> None:
    """Of six pairs four are in order and one is tied: (4 + 1/2) / 6."""
    found = auc(np.array([[0.9, 0.5, 0.4, 0.5, 0.1]]), np.array([True, True, False, False, False]), alone(5))
    assert found["value"] == pytest.approx(5.5 / 6)
    found = auc(np.array([[0.9, 0.3, 0.4, 0.3, 0.1]]), np.array([True, True, False, False, False]), alone(5))
    assert found["value"] == pytest.approx(4.5 / 6)


def test_the_variance_is_that_of_hanley_and_mcneil_where_theirs_is_exact() -> None:
    """Scores of two exponential distributions (doi 10.1148/radiology.143.1.7063747): Q1 = A/(2-A), Q2 = 2A^2/(1+A)."""
    rng, num_first, num_second, area = np.random.default_rng(1), 40, 60, 0.8
    positive = np.arange(100) < num_first
    scale = np.where(positive, area / (1 - area), 1.0)
    found = [delong(rng.exponential(scale)[None], positive, alone(100))[1].item() for _ in range(400)]
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (num_first - 1) * (q1 - area**2) + (num_second - 1) * (q2 - area**2)
    expected = (area * (1 - area) + spread) / (num_first * num_second)
    assert np.mean(found) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_the_variance_stays_below_that_of_the_worst_distribution(seed: int) -> None:
    """Components lie in [0, 1] with mean A, so their variance is at most A (1 - A) m / (m - 1)."""
    rng = np.random.default_rng(seed)
    positive = np.arange(30) < 8
    (area,), covariance = delong(np.round(rng.normal(size=(1, 30)), seed), positive, alone(30))
    assert 0 < covariance.item() <= area * (1 - area) * (1 / 7 + 1 / 21)


def test_groups_of_equal_images_count_once() -> None:
    """Every image three times in its group: the variance of the images alone."""
    rng = np.random.default_rng(3)
    positive = np.arange(50) < 20
    scores = rng.normal(size=(2, 50)) + positive
    areas, covariance = delong(scores, positive, alone(50))
    again = delong(scores.repeat(3, axis=1), positive.repeat(3), alone(50).repeat(3))
    np.testing.assert_allclose(again[0], areas)
    np.testing.assert_allclose(again[1], covariance)


def test_groups_with_both_kinds_have_a_covariance_between_them() -> None:
    """A shift that both images of a group share changes no pair within, so the area varies less than two samples do."""
    rng = np.random.default_rng(4)
    num = 400
    positive, groups = np.arange(2 * num) < num, np.tile(np.arange(num), 2).astype(str)
    shift = rng.normal(size=num) * 3
    scores = (np.concatenate([shift + 1, shift]) + rng.normal(size=2 * num))[None]
    paired, apart = delong(scores, positive, groups)[1].item(), delong(scores, positive, alone(2 * num))[1].item()
    assert paired < 0.5 * apart
    drawn = []
    for _ in range(300):
        picks = rng.integers(0, num, num)
        drawn.append(delong(scores[:, np.r_[picks, picks + num]], positive, groups)[0].item())
    assert paired == pytest.approx(np.var(drawn), rel=0.2)


def test_the_interval_covers_the_true_area() -> None:
    rng, positive = np.random.default_rng(5), np.arange(60) < 25
    hits = 0
    for _ in range(600):
        found = auc((rng.normal(size=60) + 1.4 * positive)[None], positive, alone(60))
        hits += found["low"] <= 0.8389 <= found["high"]  # Phi(1.4 / sqrt(2))
    assert 0.93 <= hits / 600 <= 0.98


def test_the_test_of_equal_areas_keeps_its_level() -> None:
    rng, positive = np.random.default_rng(6), np.arange(80) < 30
    ps = []
    for _ in range(500):
        common = rng.normal(size=80) + positive
        first, second = (common + rng.normal(size=80) for _ in range(2))
        ps.append(auc_difference(first[None], second[None], positive, alone(80))["p"])
    assert 0.025 <= np.mean(np.array(ps) <= 0.05) <= 0.08


def test_the_difference_is_its_brute_force_z() -> None:
    rng, positive = np.random.default_rng(7), np.arange(70) < 30
    scores = rng.normal(size=(2, 70)) + positive * np.array([[1.0], [0.4]])
    areas, covariance = brute_force(scores, positive)
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = auc_difference(scores[:1], scores[1:], positive, alone(70))
    assert found["difference"] == pytest.approx(areas[0] - areas[1])
    assert (found["high"] - found["low"]) / 2 == pytest.approx(1.959964 * error, rel=1e-6)
    swapped = auc_difference(scores[1:], scores[:1], positive, alone(70))
    assert (swapped["low"], swapped["p"]) == pytest.approx((-found["high"], found["p"]))


def test_repeats_are_averaged() -> None:
    rng, positive = np.random.default_rng(8), np.arange(50) < 20
    scores = rng.normal(size=(3, 50)) + positive
    areas, covariance = brute_force(scores, positive)
    found = auc(scores, positive, alone(50))
    assert found["value"] == pytest.approx(areas.mean())
    assert (found["low"], found["high"]) == pytest.approx(logit_interval(areas.mean(), np.diag(covariance).mean()))


def test_logit_interval_in_closed_form() -> None:
    """At 1/2 the slope of the logit is 4: odds of exp(+-1.96 * 4 * 0.05)."""
    odds = np.exp(1.959964 * 4 * 0.05)
    assert logit_interval(0.5, 0.0025) == pytest.approx((1 / (1 + odds), odds / (1 + odds)))
    low, high = logit_interval(0.99, 0.01)
    assert 0 < low < 0.99 < high < 1


@pytest.mark.parametrize("scores", [[3.0, 4, 1, 2], [1.0, 2, 3, 4], [5.0, 5, 5, 5]], ids=["1", "0", "constant"])
def test_where_the_variance_is_0_there_is_no_interval(scores: list[float]) -> None:
    found = auc(np.array([scores]), np.array([True, True, False, False]), alone(4))
    assert (found["low"], found["high"]) == (None, None)
    assert found["value"] in (1.0, 0.0, 0.5)


def test_equal_arms_and_arms_that_differ_without_variance() -> None:
    positive, perfect = np.array([True, True, False, False]), np.array([[3.0, 4, 1, 2]])
    same = auc_difference(perfect, perfect, positive, alone(4))
    assert same == {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    differ = auc_difference(perfect, np.zeros((1, 4)), positive, alone(4))
    assert differ == {"difference": 0.5, "low": None, "high": None, "p": None}


def test_one_group_of_a_kind_has_an_area_and_no_variance() -> None:
    positive, groups = np.array([True, True, False, False]), np.array(["a", "a", "b", "c"])
    scores = np.array([[3.0, 1, 2, 0]])
    assert auc(scores, positive, groups) == {"value": 0.75, "low": None, "high": None}
    assert auc_difference(scores, scores * 0, positive, groups)["p"] is None


@pytest.mark.parametrize(
    ("positive", "num_groups", "message"),
    [
        ([True, True], 2, r"positive and negative images, got 2 of 2"),
        ([True, False], 3, r"got \(1, 2\), \(2,\), \(3,\)"),
    ],
)
def test_what_has_no_area_is_refused(positive: list[bool], num_groups: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        delong(np.zeros((1, 2)), np.array(positive), alone(num_groups))
