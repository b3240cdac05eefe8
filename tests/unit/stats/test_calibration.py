"""The rule on simulated studies, a small part of benchmarks/verdict_calibration.py."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.verdict_calibration import ACCURACY, DISCORDANCE, SEED_SD, Study, hits, study, upper

NUM_STUDIES = 60


@functools.cache
def studies(effect: float, num_images: int, share: float, num_resamples: int = 500) -> tuple[Study, ...]:
    return tuple(
        study(num_images, effect, seed, share=share, num_resamples=num_resamples) for seed in range(NUM_STUDIES)
    )


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("word", ["helps", "harms", "beats_real_only"])
def test_no_effect_is_rarely_an_effect(word, share):
    # A rule whose true rate is 0.025, that of one side of a two-sided test, stays below this with probability 0.999.
    found = sum(getattr(s, word) for s in studies(0.0, 140, share))
    assert found <= binom.ppf(0.999, NUM_STUDIES, 0.025)


def test_the_habit_of_papers_finds_it_in_every_other_study():
    found = sum(s.papers_gain >= 0.03 - 1e-9 for s in studies(0.0, 140, 0.5))
    assert found >= 0.4 * NUM_STUDIES


def test_a_large_effect_is_found():
    assert sum(s.helps for s in studies(0.12, 140, 0.5)) >= 0.9 * NUM_STUDIES


def test_words_do_not_depend_on_the_number_of_resamples():
    few, many = (studies(0.06, 140, 0.5, num) for num in (500, 2000))
    assert sum(a != b for a, b in zip(few, many, strict=True)) <= 3
    assert 5 <= sum(s.helps for s in many) <= 55


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("effect", [0.0, 0.03])
def test_the_simulated_effect_is_true(effect, share):
    """400 arms with their own thresholds on the same images: the standard error is 0.001, an effect of 0.019 fails."""
    rng = np.random.default_rng(0)
    hard = rng.normal(size=20_000)
    right, control = (hits(rng, hard, (400, 1), gain, share).mean() for gain in (effect, 0.0))
    assert right - control == pytest.approx(effect, abs=0.004)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_two_arms_disagree_as_often_as_said(share):
    rng = np.random.default_rng(1)
    first, second = hits(rng, rng.normal(size=200_000), (2, 8), 0.0, share)
    assert (first != second).mean() == pytest.approx(DISCORDANCE, abs=0.004)
    assert np.concatenate([first, second]).mean(axis=1).std(ddof=1) == pytest.approx(SEED_SD, rel=0.5)
    assert first.mean() == pytest.approx(ACCURACY, abs=4 * SEED_SD / 8**0.5)


@pytest.mark.parametrize(("count", "expected"), [(0, 1 - 0.05 ** (1 / 400)), (400, 1.0)])
def test_the_upper_bound_is_clopper_pearsons(count, expected):
    assert upper(count, 400) == pytest.approx(expected)
