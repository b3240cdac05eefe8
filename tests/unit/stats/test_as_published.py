"""What chance alone would have let a study report."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from medsynth_ray.stats.as_published import as_published
from medsynth_ray.stats.primary import Primary

PRIMARY = Primary("balanced_accuracy")
LABELS = np.arange(60) % 3
GROUPS = np.arange(60)


def guesses(share: float, seed: int) -> np.ndarray:
    """Probabilities (60, 3) of a classifier that is right on about `share` of the images."""
    rng = np.random.default_rng(seed)
    called = np.where(rng.random(60) < share, LABELS, (LABELS + rng.integers(1, 3, 60)) % 3)
    return np.eye(3)[called]


def test_arms_that_changed_nothing_gain_nothing_in_every_permutation() -> None:
    base = guesses(0.6, 0)
    found = as_published({"b": base, "a": base.copy()}, base, LABELS, GROUPS, primary=PRIMARY, seed=0)
    assert (found.gain, found.p, found.by_chance, found.best) == (0.0, 1.0, 0.0, "a")
    assert found.score == found.real_only
    assert (found.num_arms, found.num_images) == (2, 60)


def test_a_perfect_arm_is_beyond_chance() -> None:
    arms = {"perfect": np.eye(3)[LABELS], "same": guesses(0.5, 1)}
    found = as_published(arms, guesses(0.5, 1), LABELS, GROUPS, primary=PRIMARY, seed=0, num_permutations=999)
    assert found.best == "perfect"
    assert found.score == 1.0
    assert found.gain == pytest.approx(1.0 - found.real_only)
    assert found.p == 1 / 1000


def test_one_image_that_differs_is_a_coin() -> None:
    """The swap gives +1/3 or -1/3 of a class' recall with equal chance, so p is a half."""
    labels = np.array([0, 1, 1, 1])
    base, arm = np.eye(2)[[0, 1, 1, 0]], np.eye(2)[[0, 1, 1, 1]]
    found = as_published({"arm": arm}, base, labels, np.arange(4), primary=PRIMARY, seed=3, num_permutations=1999)
    assert found.gain == pytest.approx(1 / 6)
    assert found.p == pytest.approx(0.5, abs=0.04)
    assert abs(found.by_chance) == pytest.approx(1 / 6)


@pytest.mark.parametrize("num_arms", [1, 3])
def test_p_is_uniform_or_larger_where_nothing_helps(num_arms: int) -> None:
    p_values = []
    for study in range(80):
        arms = {str(i): guesses(0.6, 1000 * study + i) for i in range(num_arms)}
        base = guesses(0.6, 1000 * study + 999)
        found = as_published(arms, base, LABELS, GROUPS, primary=PRIMARY, seed=study, num_permutations=39)
        p_values.append(found.p)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(p_values) <= level) <= stats.binom.ppf(0.999, 80, level) / 80
    assert np.mean(np.array(p_values) <= 0.5) >= stats.binom.ppf(0.001, 80, 0.5) / 80 - 0.1


def test_images_of_a_group_are_swapped_together() -> None:
    """One group: all is swapped or nothing is, so the gain is there or its negative."""
    arm, base = guesses(0.9, 1), guesses(0.5, 2)
    found = as_published({"arm": arm}, base, LABELS, np.zeros(60), primary=PRIMARY, seed=0, num_permutations=999)
    assert found.p == pytest.approx(0.5, abs=0.06)
    assert abs(found.by_chance) == pytest.approx(found.gain)


def test_more_arms_gain_more_by_chance() -> None:
    arms = {str(i): guesses(0.6, i) for i in range(12)}
    few, many = (
        as_published(dict(list(arms.items())[:n]), guesses(0.6, 99), LABELS, GROUPS, primary=PRIMARY, seed=0)
        for n in (1, 12)
    )
    assert many.by_chance > few.by_chance + 0.02


def test_the_sentence_names_the_share_of_permutations() -> None:
    arms = {"gan+add@0.5": np.eye(3)[LABELS], "gan+add@0.25": guesses(0.7, 5)}
    found = as_published(arms, guesses(0.7, 4), LABELS, GROUPS, primary=PRIMARY, seed=0)
    said = found.sentence("balanced accuracy")
    assert said.startswith("As published: gan+add@0.5 reaches balanced accuracy 1.000 against ")
    assert "the best of 2 arms was picked on the 60 test images" in said
    assert f"{found.gain:+.3f} or more in {found.p:.0%} of them" in said


def test_the_same_seed_gives_the_same_numbers_whatever_the_order_of_arms() -> None:
    arms = {str(i): guesses(0.6, i) for i in range(4)}
    first, again = (
        as_published(dict(order), guesses(0.6, 50), LABELS, GROUPS, primary=PRIMARY, seed=7)
        for order in (arms.items(), reversed(arms.items()))
    )
    assert first == again


def test_without_an_arm_there_is_nothing_to_report() -> None:
    with pytest.raises(ValueError, match="no arm was scored on the test images"):
        as_published({}, guesses(0.5, 0), LABELS, GROUPS, primary=PRIMARY, seed=0)
