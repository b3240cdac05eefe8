"""macro AUC and sensitivity under resampling: the scores of scikit-learn on images that are there several times."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from medsynth_ray.stats._ranks import rank_classes
from medsynth_ray.stats.paired import interval, repeat_scores, two_way_bootstrap
from medsynth_ray.stats.primary import Primary
from medsynth_ray.stats.scores import scores

AUC = Primary("macro_auc")
RANKED = [AUC, Primary("sensitivity", 0.9, 1), Primary("sensitivity", 0.8, 2)]


def arms(n: int, repeats: int, num_classes: int, *, group_size: int = 1, seed: int = 0, decimals: int = 6):
    """Labels, groups and probabilities (S, N, K) of two arms; few decimals make many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % num_classes)
    codes = np.arange(n) // group_size
    shared = rng.normal(0, 1, (codes.max() + 1, num_classes))[codes] + 1.5 * np.eye(num_classes)[labels]
    logits = shared + rng.normal(0, 0.5, (2, 1, n, num_classes)) + rng.normal(0, 0.5, (2, repeats, n, num_classes))
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return labels, np.array([f"patient-{c:04d}" for c in codes]), *probs.round(decimals)


@pytest.mark.parametrize("primary", RANKED, ids=lambda p: p.key)
@pytest.mark.parametrize("decimals", [1, 6])
def test_a_resample_scores_as_if_its_images_were_written_out(primary, decimals):
    labels, _, first, second = arms(90, 3, 3, decimals=decimals)
    weights = np.random.default_rng(1).multinomial(90, np.full(90, 1 / 90), 5).astype(np.float64)
    found = np.mean(
        [ranks.scores(weights, primary) for ranks in rank_classes(labels, (first, second), primary)], axis=0
    )
    rows = [np.repeat(np.arange(90), w.astype(int)) for w in weights]
    expected = [
        [[scores(probs[s][r], labels[r])[primary.key] for s in range(3)] for r in rows] for probs in (first, second)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("primary", RANKED, ids=lambda p: p.key)
def test_the_estimate_is_the_mean_difference_of_the_repeats(primary):
    labels, groups, first, second = arms(240, 5, 3, group_size=2)
    found = two_way_bootstrap(labels, groups, first, second, primary=primary, seed=0, num_resamples=200)
    own, other = ([scores(p, labels)[primary.key] for p in probs] for probs in (first, second))
    np.testing.assert_allclose(found.repeats, np.subtract(own, other), atol=1e-12)
    np.testing.assert_allclose(repeat_scores(labels, first, primary), own, atol=1e-12)
    assert found.low < found.difference < found.high
    assert [c.label for c in found.per_class] == [0, 1, 2]


@pytest.mark.parametrize("primary", RANKED, ids=lambda p: p.key)
def test_bootstrap_agrees_with_a_slow_one_written_out(primary):
    labels, groups, first, second = arms(60, 4, 3, group_size=3)
    found = two_way_bootstrap(labels, groups, first, second, primary=primary, seed=0, num_resamples=4000)
    rng, drawn = np.random.default_rng(99), []
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    for _ in range(400):
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        repeats = rng.integers(0, 4, 4)
        drawn.append(
            np.mean([repeat_scores(labels[rows], p[repeats][:, rows], primary) for p in (first, second)], axis=1)
        )
    gains = np.array(drawn) @ [1.0, -1.0]
    assert found.se == pytest.approx(gains.std(), rel=0.15)
    np.testing.assert_allclose([found.low, found.high], np.quantile(gains, [0.025, 0.975]), atol=0.4 * found.se)


def test_the_standard_error_of_an_auc_is_delongs():
    """DeLong, DeLong and Clarke-Pearson 1988: variances of the positives' and of the negatives' mean wins."""
    labels, groups, first, _ = arms(600, 1, 2, seed=3)
    score, positive = first[0, :, 1], labels == 1
    wins = score[positive][:, None] > score[~positive][None]
    closed = np.sqrt(wins.mean(axis=1).var(ddof=1) / 300 + wins.mean(axis=0).var(ddof=1) / 300)
    mean, low, high = interval(labels, groups, first, primary=AUC, seed=0)
    assert mean == pytest.approx(wins.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * closed, rel=0.08)


@pytest.mark.parametrize("primary", RANKED, ids=lambda p: p.key)
def test_identical_arms_differ_by_nothing(primary):
    labels, groups, first, _ = arms(90, 4, 3)
    found = two_way_bootstrap(labels, groups, first, first, primary=primary, seed=0)
    assert (found.difference, found.low, found.high, found.se) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("primary", RANKED, ids=lambda p: p.key)
def test_resamples_without_the_class_are_left_out(primary):
    labels, groups, first, second = arms(60, 3, 3)
    labels = np.where(np.arange(60) < 2, primary.positive or 2, 0)
    mean, low, high = interval(labels, groups, first, primary=primary, seed=0)
    assert 0.0 <= low <= mean <= high <= 1.0
    found = two_way_bootstrap(labels, groups, first, second, primary=primary, seed=0)
    assert np.isfinite([found.low, found.high, found.se]).all()


@pytest.mark.parametrize(
    ("primary", "message"),
    [
        (AUC, "macro_auc needs images of two classes, got only class 0"),
        (Primary("sensitivity", 0.9, 1), "sensitivity_at_0.90/1 needs images of class 1 and of others among"),
        (Primary("sensitivity", 0.9, 0), "sensitivity_at_0.90/0 needs images of class 0 and of others"),
    ],
)
def test_labels_on_which_the_metric_is_not_defined_are_refused(primary, message):
    with pytest.raises(ValueError, match=message):
        repeat_scores(np.zeros(4, dtype=int), np.full((2, 4, 3), 1 / 3), primary)


@pytest.mark.parametrize("primary", [AUC, RANKED[1]], ids=lambda p: p.key)
def test_coverage_under_a_null_is_at_least_nominal(primary):
    inside = 0
    for seed in range(100):
        labels, groups, first, second = arms(150, 6, 2, group_size=2, seed=seed)
        found = two_way_bootstrap(labels, groups, first, second, primary=primary, seed=seed, num_resamples=200)
        inside += found.low <= 0.0 <= found.high
    assert 0.90 <= inside / 100 <= 1.0


SAME_BITS = """
import numpy as np
from medsynth_ray.stats.paired import two_way_bootstrap
from medsynth_ray.stats.primary import Primary
rng = np.random.default_rng(0)
first, second = rng.dirichlet([1, 1, 1], (2, 4, 300))
labels, groups = np.arange(300) % 3, np.arange(300) // 2
for primary in (Primary("macro_auc"), Primary("sensitivity", 0.9, 1), Primary("macro_f1")):
    print(two_way_bootstrap(labels, groups, first, second, primary=primary, seed=5, num_resamples=300))
"""


def test_bits_do_not_depend_on_the_number_of_threads():
    def said(threads: str) -> bytes:
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        return subprocess.run(
            [sys.executable, "-c", SAME_BITS], env=environment, capture_output=True, check=True
        ).stdout

    assert said("1") == said("2") != b""


@pytest.mark.timeout(60)
def test_three_thousand_images_take_seconds():
    labels, groups, first, second = arms(2900, 8, 3)
    start = time.process_time()
    two_way_bootstrap(labels, groups, first, second, primary=AUC, seed=0)
    assert time.process_time() - start < 10.0
