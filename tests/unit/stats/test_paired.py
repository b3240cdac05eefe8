"""Closed forms, scipy and scikit-learn as oracles, coverage under a simulated null."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from statsmodels.stats.multitest import multipletests

from medsynth_ray.stats.paired import holm, interval, metric_of_confusion, sign_flip_p, two_way_bootstrap
from medsynth_ray.stats.primary import Primary

ORACLES = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "macro_f1": lambda truth, predicted: f1_score(truth, predicted, average="macro"),
}


def arms(n: int, repeats: int, num_classes: int, *, group_size: int = 1, seed: int = 0, right: float = 0.7):
    """Labels, groups and two exchangeable arms whose hits depend on the group, the image and the repeat."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % num_classes)
    codes = np.arange(n) // group_size
    hard = rng.normal(0, 0.7, codes.max() + 1)[codes] + rng.normal(0, 0.7, n)
    arm_effect = rng.normal(0, 0.3, (2, n))
    repeat_effect = rng.normal(0, 0.1, (2, repeats, 1))
    limit = np.quantile(hard, right)
    hit = hard + arm_effect[:, None, :] + repeat_effect + rng.normal(0, 0.5, (2, repeats, n)) < limit
    wrong = (labels + 1 + rng.integers(0, num_classes - 1, (2, repeats, n))) % num_classes
    first, second = np.where(hit, labels, wrong)
    return labels, np.array([f"patient-{c:04d}" for c in codes]), first, second


def classes_bootstrap(labels, groups, first, second, *, num_classes, metric, **keys):
    """Of predicted classes (S, N), as sure probabilities."""
    eye = np.eye(num_classes)
    return two_way_bootstrap(labels, groups, eye[first], eye[second], primary=Primary(metric), **keys)


@pytest.mark.parametrize("metric", list(ORACLES))
def test_metric_agrees_with_scikit_learn(metric):
    labels, _, first, _ = arms(300, 2, 4)
    confusion = np.zeros((2, 4, 4))
    for row, predicted in enumerate(first):
        np.add.at(confusion[row], (labels, predicted), 1)
    expected = [ORACLES[metric](labels, predicted) for predicted in first]
    np.testing.assert_allclose(metric_of_confusion(confusion, metric), expected, rtol=1e-12)


def test_metric_runs_over_classes_that_are_there():
    confusion = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert metric_of_confusion(confusion, "balanced_accuracy") == pytest.approx((0.75 + 1.0) / 2)
    assert metric_of_confusion(confusion, "macro_f1") == pytest.approx((6 / 7 + 8 / 9) / 2)
    assert metric_of_confusion(np.zeros((3, 3)), "accuracy") == 0.0


def test_metric_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="got 'auc'"):
        metric_of_confusion(np.eye(2), "auc")
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        metric_of_confusion(np.ones((2, 3)), "accuracy")


@pytest.mark.parametrize("repeats", [1, 2, 3, 5, 6, 8, 12])
def test_sign_flip_reaches_two_in_two_to_the_s(repeats):
    assert sign_flip_p(np.linspace(0.01, 0.02, repeats)) == 2.0 ** (1 - repeats)
    assert sign_flip_p(-np.linspace(0.01, 0.02, repeats)) == 2.0 ** (1 - repeats)


def test_sign_flip_of_no_difference_is_one():
    assert sign_flip_p(np.zeros(8)) == 1.0
    assert sign_flip_p(np.array([0.1, -0.1, 0.2, -0.2])) == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_sign_flip_agrees_with_scipy(seed):
    # Rounded values make many ties, the case in which floating point sums go wrong.
    differences = np.random.default_rng(seed).normal(0.01, 0.02, 9).round(2)
    oracle = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip_p(differences) == pytest.approx(oracle.pvalue, abs=1e-12)


def test_sign_flip_above_twenty_repeats_is_seeded_and_near_the_normal_answer():
    differences = np.random.default_rng(3).normal(0.3, 1.0, 24)
    p = sign_flip_p(differences, seed=1)
    assert p == sign_flip_p(differences, seed=1)
    assert p != sign_flip_p(differences, seed=2)
    exact = permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=50_000, rng=0)
    assert p == pytest.approx(exact.pvalue, abs=0.01)


@pytest.mark.parametrize("bad", [[], [0.1, np.nan], [[0.1, 0.2]]])
def test_sign_flip_refuses(bad):
    with pytest.raises(ValueError, match="finite numbers"):
        sign_flip_p(np.array(bad))


@pytest.mark.parametrize("metric", list(ORACLES))
def test_bootstrap_estimate_is_the_mean_difference_of_the_repeats(metric):
    labels, groups, first, second = arms(240, 5, 3, group_size=2)
    found = classes_bootstrap(labels, groups, first, second, num_classes=3, metric=metric, seed=0, num_resamples=200)
    expected = [ORACLES[metric](labels, a) - ORACLES[metric](labels, b) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(found.repeats, expected, atol=1e-12)
    assert found.difference == pytest.approx(np.mean(expected), abs=1e-12)
    assert found.low < found.difference < found.high


def test_bootstrap_agrees_with_a_slow_one_written_out():
    labels, groups, first, second = arms(60, 4, 3, group_size=3)
    found = classes_bootstrap(
        labels, groups, first, second, num_classes=3, metric="balanced_accuracy", seed=0, num_resamples=4000
    )
    rng = np.random.default_rng(99)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    drawn = []
    for _ in range(1500):
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        repeats = rng.integers(0, 4, 4)
        gains = (first == labels).astype(float) - (second == labels)
        recalls = [gains[s][rows][labels[rows] == c].mean() for s in repeats for c in range(3)]
        drawn.append(np.mean(recalls))
    assert found.se == pytest.approx(np.std(drawn), rel=0.08)
    np.testing.assert_allclose([found.low, found.high], np.quantile(drawn, [0.025, 0.975]), atol=0.25 * found.se)


@pytest.mark.parametrize("metric", list(ORACLES))
def test_interval_of_one_arm(metric):
    labels, groups, first, _ = arms(300, 6, 3)
    mean, low, high = interval(labels, groups, np.eye(3)[first], primary=Primary(metric), seed=0)
    assert mean == pytest.approx(np.mean([ORACLES[metric](labels, predicted) for predicted in first]), abs=1e-12)
    assert low < mean < high


def test_interval_of_accuracy_has_a_closed_form():
    labels, groups, first, _ = arms(500, 1, 2)
    mean, low, high = interval(labels, groups, np.eye(2)[first], primary=Primary("accuracy"), seed=0)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(mean * (1 - mean) / 500), rel=0.08)


def test_bootstrap_se_of_accuracy_has_a_closed_form():
    # One repeat, one image per group: se^2 = var(difference of hits) / N.
    labels, groups, first, second = arms(800, 1, 2)
    found = classes_bootstrap(labels, groups, first, second, num_classes=2, metric="accuracy", seed=5)
    hits = (first[0] == labels).astype(float) - (second[0] == labels)
    assert found.se == pytest.approx(hits.std() / np.sqrt(len(labels)), rel=0.06)


def test_grouped_images_widen_the_interval():
    labels, groups, first, second = (np.repeat(x, 4, axis=-1) for x in arms(200, 1, 2))
    alone = np.array([f"image-{i}" for i in range(len(labels))])
    keys = {"num_classes": 2, "metric": "accuracy", "seed": 0}
    grouped, single = (classes_bootstrap(labels, g, first, second, **keys).se for g in (groups, alone))
    assert grouped / single == pytest.approx(2.0, rel=0.15)


def test_identical_arms_differ_by_nothing():
    labels, groups, first, _ = arms(90, 4, 3)
    found = classes_bootstrap(labels, groups, first, first, num_classes=3, metric="macro_f1", seed=0)
    assert (found.difference, found.low, found.high, found.se) == (0.0, 0.0, 0.0, 0.0)


def test_classes_differ_where_one_is_harmed_and_the_mean_gains():
    labels = np.repeat([0, 1, 2], 100)
    groups = np.arange(300).astype(str)
    rng = np.random.default_rng(0)
    first = np.where(rng.random((6, 300)) < np.repeat([0.95, 0.95, 0.5], 100), labels, (labels + 1) % 3)
    second = np.where(rng.random((6, 300)) < np.repeat([0.6, 0.6, 0.8], 100), labels, (labels + 1) % 3)
    found = classes_bootstrap(labels, groups, first, second, num_classes=5, metric="balanced_accuracy", seed=0)
    assert found.low > 0
    assert [c.label for c in found.per_class] == [0, 1, 2]
    assert found.per_class[0].low > 0.2
    assert found.per_class[2].high < -0.15


def test_a_rare_class_may_be_missing_from_a_resample():
    labels, groups, first, second = arms(60, 3, 2)
    labels = np.where(np.arange(60) == 7, 2, labels)
    found = classes_bootstrap(labels, groups, first, second, num_classes=3, metric="balanced_accuracy", seed=0)
    assert np.isfinite([found.low, found.high, found.se, *(v for c in found.per_class for v in (c.low, c.high))]).all()
    assert found.per_class[2].label == 2


def test_bootstrap_is_a_function_of_its_seed():
    labels, groups, first, second = arms(120, 4, 3)
    keys = {"num_classes": 3, "metric": "macro_f1", "num_resamples": 300}
    once = classes_bootstrap(labels, groups, first, second, seed=1, **keys)
    assert once == classes_bootstrap(labels, groups, first, second, seed=1, **keys)
    assert once.low != classes_bootstrap(labels, groups, first, second, seed=2, **keys).low


def test_coverage_under_a_null_is_at_least_nominal():
    inside = 0
    for seed in range(120):
        labels, groups, first, second = arms(150, 8, 2, group_size=2, seed=seed)
        found = classes_bootstrap(
            labels, groups, first, second, num_classes=2, metric="balanced_accuracy", seed=seed, num_resamples=300
        )
        inside += found.low <= 0.0 <= found.high
    assert 0.90 <= inside / 120 <= 1.0


@pytest.mark.timeout(30)
def test_three_thousand_images_take_seconds():
    labels, groups, first, second = arms(3000, 8, 7)
    start = time.process_time()
    classes_bootstrap(labels, groups, first, second, num_classes=7, metric="balanced_accuracy", seed=0)
    assert time.process_time() - start < 10.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 1, 3])}, r"labels must be in \[0, 3\), got 0 to 3"),
        ({"labels": np.array([0, 1, -1])}, "got -1 to 1"),
        ({"first": np.full((1, 3, 3), np.nan)}, "must be finite"),
        ({"second": np.ones((1, 2, 3))}, r"\(1, 2, 3\)"),
        ({"second": np.ones((1, 3))}, r"\(1, 3\)"),
        ({"groups": np.array(["a"])}, r"\(3,\), \(1,\)"),
        ({"num_resamples": 3}, "at least 100, got 3"),
    ],
)
def test_bootstrap_refuses(change, message):
    given = {
        "labels": np.array([0, 1, 2]),
        "groups": np.array(["a", "b", "c"]),
        "first": np.eye(3)[None],
        "second": np.eye(3)[None],
        "num_resamples": 100,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        two_way_bootstrap(**given, primary=Primary("accuracy"), seed=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num", [1, 2, 7])
def test_holm_is_that_of_statsmodels(seed, num):
    values = np.random.default_rng(seed).beta(0.3, 3.0, num).round(2)
    found = holm({f"arm {i}": float(p) for i, p in enumerate(values)})
    expected = multipletests(values, method="holm")[1]
    assert found == pytest.approx({f"arm {i}": p for i, p in enumerate(expected)}, abs=1e-15)


def test_holm_of_a_known_family():
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert (holm({"a": 0.0234}), holm({})) == ({"a": 0.0234}, {})


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_holm_refuses_what_is_no_p(p):
    with pytest.raises(ValueError, match=r"p-values must lie in \[0, 1\], got {'b'"):
        holm({"a": 0.5, "b": p})


def test_the_level_of_the_interval_is_asked_for():
    labels, groups, first, second = arms(500, 1, 2)
    keys = {"num_classes": 2, "metric": "accuracy", "seed": 0, "num_resamples": 4000}
    wide = classes_bootstrap(labels, groups, first, second, alpha=0.05 / 4, **keys)
    narrow = classes_bootstrap(labels, groups, first, second, **keys)
    # Normal quantiles: 2.498 at 1 - 0.05 / 4, 1.960 at 0.95.
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2.498 / 1.960, rel=0.06)
    assert (wide.se, wide.per_class) == (narrow.se, narrow.per_class)
