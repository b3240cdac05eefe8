"""Every word of the verdict is reached, by the rule and by nothing else; the rule holds its level under a null."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from medsynth_ray.stats.primary import Primary
from medsynth_ray.stats.verdict import Comparison, compare, decide, largest_p, no_candidate

BALANCED = Primary("balanced_accuracy")
WHAT = {"effect": 0.03, "winner": "gaussian (add, ratio 0.50)", "about": "pool", "primary": BALANCED}
CONTROLS = ("real_only", "real_classic", "real_oversampled")


def comparison(
    control="real_only", difference=0.04, half=0.02, p=2 / 256, repeats=8, se=None, low=None, high=None, spread=0.04,
    num_arms=1,
) -> Comparison:  # fmt: skip
    return Comparison(
        control=control,
        difference=difference,
        low=difference - half if low is None else low,
        high=difference + half if high is None else high,
        p=p,
        se=half / 1.96 if se is None else se,
        spread=spread,
        repeats=(difference,) * repeats,
        per_class=(),
        num_images=1430,
        num_groups=820,
        level=1 - 0.05 / num_arms,
    )


def decided(*comparisons: Comparison, **change):
    return decide({c.control: c for c in comparisons}, **{**WHAT, **change})


def test_helps_when_every_control_is_beaten():
    verdict = decided(*(comparison(c) for c in CONTROLS))
    assert verdict.word == "helps"
    assert verdict.sentence == (
        "Adding gaussian (add, ratio 0.50) helps: balanced accuracy +0.040 [+0.020, +0.060] against real only, "
        "+0.040 [+0.020, +0.060] against real with classic augmentation and "
        "+0.040 [+0.020, +0.060] against real oversampled to the same number of steps; "
        "these images (confirm.about: pool), 8 paired repeats, 1,430 locked test images of 820 groups."
    )


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("failure", [{"half": 0.05}, {"p": 0.0625}])
def test_one_control_that_is_not_beaten_is_enough_to_not_help(control, failure):
    verdict = decided(*(comparison(c, **(failure if c == control else {})) for c in CONTROLS))
    assert verdict.word != "helps"
    assert verdict.hardest == control


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"difference": -0.04}, "harms"),
        ({"difference": -0.04, "p": 0.06}, "no_evidence"),
        ({"difference": -0.04, "half": 0.05}, "no_evidence"),
        ({"difference": -0.04, "half": 0.08}, "cannot_tell"),
        ({"difference": -0.04, "p": 0.0625, "repeats": 5}, "cannot_tell"),
        ({"difference": 0.002, "half": 0.01, "p": 0.4}, "no_evidence"),
        ({"difference": 0.002, "half": 0.06, "p": 0.4}, "cannot_tell"),
        ({"difference": 0.04, "half": 0.01, "repeats": 5, "p": 0.0625}, "cannot_tell"),
        ({"difference": 0.04, "half": 0.04}, "cannot_tell"),
        ({"difference": 0.04, "half": 0.02, "p": 0.05}, "helps"),
    ],
)
def test_the_rule(given, word):
    assert decided(comparison(**given)).word == word


# 1.96 * se_floor of 2 classes with 12, 50, 60, 100 and 400 groups each: 0.069, 0.034, 0.031, 0.024 and 0.012.
COLLAPSED = {"difference": 0.0, "half": 0.0, "p": 1.0}


@pytest.mark.parametrize(
    ("groups_per_class", "given", "word"),
    [
        (12, COLLAPSED, "cannot_tell"),
        (60, COLLAPSED, "cannot_tell"),
        (400, COLLAPSED, "no_evidence"),
        (100, {"difference": 0.001, "half": 0.002, "p": 0.5}, "no_evidence"),
        (50, {"difference": 0.001, "half": 0.002, "p": 0.5}, "cannot_tell"),
        (400, {"difference": 0.02, "low": -0.001, "high": 0.041, "p": 0.06}, "cannot_tell"),
        (400, {"difference": 0.0, "half": 0.7 * 0.03, "p": 0.5}, "no_evidence"),
    ],
)
def test_a_result_excludes_the_effect_or_not(groups_per_class, given, word):
    spread = np.sqrt(2 / groups_per_class) / 2
    assert decided(comparison(**given, spread=spread)).word == word


def test_a_control_that_is_clearly_better_excludes_a_gain():
    above_real_only = comparison("real_only", 0.002, 0.04, 0.6)
    verdict = decided(above_real_only, comparison("real_classic", -0.05, low=-0.08, high=-0.02))
    assert (verdict.word, verdict.hardest) == ("no_evidence", "real_classic")
    assert "; a difference of 0.030 or more against real with classic augmentation is excluded; " in verdict.sentence


@pytest.mark.parametrize(
    ("primary", "spread"),
    [
        (Primary("balanced_accuracy"), np.sqrt(1 / 20 + 1 / 5) / 2),
        (Primary("macro_f1"), np.sqrt(1 / 20 + 1 / 5) / 2),
        (Primary("macro_auc"), np.sqrt(1 / 20 + 1 / 5) / 2),
        (Primary("sensitivity", 0.8, 2), np.sqrt(1 / 5)),
        (Primary("accuracy"), np.sqrt(1 / 25)),
    ],
)
def test_spread_counts_groups_of_the_classes_that_are_present(primary, spread):
    labels, groups = np.repeat([0, 2], [40, 10]), (np.arange(50) // 2).astype(str)
    probs = np.tile(np.eye(3)[labels], (8, 1, 1))
    found = compare(probs, probs, labels, groups, control="real_only", primary=primary, seed=0, num_resamples=100)
    assert found.spread == pytest.approx(spread)
    assert (found.se, found.se_floor(0.03)) == (0.0, pytest.approx(np.sqrt(0.03) * spread))
    assert found.detectable(0.03) == pytest.approx(2.801585 * np.sqrt(0.03) * spread)


def test_harm_is_judged_against_real_only():
    below_classic = decided(comparison("real_only", 0.0, 0.01, 0.9), comparison("real_classic", -0.04))
    assert below_classic.word == "no_evidence"
    assert decided(comparison("real_only", -0.04), comparison("real_classic", 0.04)).word == "harms"


def test_the_sentences_of_the_other_words():
    about = "these images (confirm.about: pool), 8 paired repeats, 1,430 locked test images of 820 groups."
    assert decided(comparison(difference=-0.04)).sentence == (
        "Adding gaussian (add, ratio 0.50) harms: balanced accuracy -0.040 [-0.060, -0.020] against real only; " + about
    )
    assert decided(comparison(difference=0.002, half=0.01, p=0.4)).sentence == (
        "No evidence that adding gaussian (add, ratio 0.50) helps: balanced accuracy +0.002 [-0.008, +0.012] against "
        "real only; a difference of 0.030 or more is excluded; " + about
    )
    assert decided(comparison(difference=0.002, half=0.06, p=0.4)).sentence == (
        "Cannot tell whether adding gaussian (add, ratio 0.50) helps: balanced accuracy +0.002 [-0.058, +0.062] "
        "against real only; a difference of 0.030 or more is not excluded; " + about
    )
    assert decided(comparison(**COLLAPSED, spread=0.2)).sentence == (
        "Cannot tell whether adding gaussian (add, ratio 0.50) helps: balanced accuracy +0.000 [+0.000, +0.000] "
        "against real only; on so few images a difference of 0.030 is not excluded (it would bring a standard error "
        "of at least 0.035); " + about
    )


def test_beaten_controls_are_named_beside_those_that_are_not():
    beaten = comparison("real_only", 0.045, 0.025)
    verdict = decided(beaten, comparison("real_classic", 0.004, 0.014, 0.5))
    assert verdict.sentence.startswith(
        "No evidence that adding gaussian (add, ratio 0.50) helps: balanced accuracy +0.045 [+0.020, +0.070] against "
        "real only, which it beats, but +0.004 [-0.010, +0.018] against real with classic augmentation; "
        "a difference of 0.030 or more is excluded; these images"
    )
    both = decided(beaten, comparison("real_oversampled"), comparison("real_classic", 0.02, 0.03, 0.2)).sentence
    assert both.startswith(
        "Cannot tell whether adding gaussian (add, ratio 0.50) helps: balanced accuracy +0.045 [+0.020, +0.070] "
        "against real only and +0.040 [+0.020, +0.060] against real oversampled to the same number of steps, both of "
        "which it beats, but +0.020 [-0.010, +0.050] against real with classic augmentation; a difference of"
    )


def test_p_is_told_where_it_is_what_keeps_a_control_from_being_beaten():
    sentence = decided(comparison(p=0.0625)).sentence
    assert "+0.040 [+0.020, +0.060] against real only (p = 0.062); a difference of 0.030 or more is not" in sentence


def test_too_few_repeats_are_named_in_the_sentence():
    sentence = decided(comparison(difference=0.04, half=0.01, repeats=5, p=0.0625), about="method").sentence
    assert " and 5 paired repeats cannot reach p <= 0.05 (at best 0.0625); this generator (confirm.about: m" in sentence
    below = decided(comparison(difference=0.0, half=0.01, repeats=5, p=0.4)).sentence
    assert "against real only; 5 paired repeats cannot reach p <= 0.05 (at best 0.0625); these images" in below


def test_no_candidate():
    verdict = no_candidate(
        "no pool passed its gates", effect=0.03, about="pool", primary=Primary("macro_f1"), caveats=("x",)
    )
    assert (verdict.word, verdict.winner, verdict.comparisons) == ("no_candidate", None, ())
    assert verdict.sentence == "No candidate: no pool passed its gates; the locked test was not opened."
    assert (verdict.to_json()["caveats"], verdict.to_json()["metric"]) == (["x"], "macro_f1")


def test_refuses_without_real_only_and_with_unequal_repeats():
    with pytest.raises(ValueError, match=r"needs the control real_only, got \['real_classic'\]"):
        decided(comparison("real_classic"))
    with pytest.raises(ValueError, match="repeats differ"):
        decided(comparison(), comparison("real_classic", repeats=7))


def probabilities(seed: int, right: float, *, n=240, repeats=8, num_classes=3, shared=None) -> np.ndarray:
    """(S, N, K) of an arm that is right on about `right` of the images, labels = index modulo K."""
    rng = np.random.default_rng([seed, 1])
    hard = np.random.default_rng([seed, 2]).normal(0, 1, n) if shared is None else shared
    margin = np.quantile(hard, right) - hard + rng.normal(0, 0.3, n) + rng.normal(0, 0.6, (repeats, n))
    labels = np.arange(n) % num_classes
    probs = rng.random((repeats, n, num_classes)) * 0.1
    probs[:, np.arange(n), labels] = 0.5 * (margin > 0)
    probs[:, np.arange(n), (labels + 1) % num_classes] += 0.4
    return probs / probs.sum(axis=2, keepdims=True)


def sweep(seed: int, gain: float, *, num_controls: int = 2):
    shared = np.random.default_rng([seed, 9]).normal(0, 1, 240)
    labels, groups = np.arange(240) % 3, (np.arange(240) // 2).astype(str)
    winner = probabilities(10 * seed, 0.7 + gain, shared=shared)
    keys = {"primary": BALANCED, "seed": seed, "num_resamples": 300}
    controls = {
        name: compare(winner, probabilities(10 * seed + i, 0.7, shared=shared), labels, groups, control=name, **keys)
        for i, name in enumerate(CONTROLS[:num_controls], start=1)
    }
    return decide(controls, **WHAT)


def test_a_null_rarely_helps():
    words = [sweep(seed, 0.0, num_controls=1).word for seed in range(200)]
    assert words.count("helps") / len(words) <= 0.05
    assert words.count("harms") / len(words) <= 0.05


def test_a_large_effect_is_found():
    assert [sweep(seed, 0.2).word for seed in range(10)] == ["helps"] * 10


def test_json_is_plain_finite_and_the_same_again():
    verdict = sweep(3, 0.1)
    text = json.dumps(verdict.to_json(), allow_nan=False, sort_keys=True)
    assert json.loads(text) == verdict.to_json()
    assert text == json.dumps(sweep(3, 0.1).to_json(), allow_nan=False, sort_keys=True)
    first = verdict.to_json()["comparisons"][0]
    assert first["difference"] == pytest.approx(np.mean(first["repeats"]))
    assert (first["num_images"], first["num_groups"], len(first["per_class"])) == (240, 120, 3)
    assert first["spread"] == pytest.approx(np.sqrt(3 / 80) / 3)
    assert first["detectable"] >= 2.8 * np.sqrt(0.03) * first["spread"]


@pytest.mark.parametrize(
    ("winner", "message"),
    [(np.ones((2, 4, 2)), r"\(2, 4, 2\) and \(2, 5, 2\)"), (np.full((2, 5, 2), np.nan), "NaN")],
)
def test_compare_refuses(winner, message):
    with pytest.raises(ValueError, match=message):
        compare(
            winner, np.ones((2, 5, 2)), np.zeros(5, int), np.arange(5).astype(str), control="real_only",
            primary=Primary("accuracy"), seed=0,
        )  # fmt: skip


def family(num_arms: int, p_adjusted: float, **given):
    comparisons = [comparison(c, num_arms=num_arms, **given) for c in CONTROLS]
    return decided(*comparisons, num_arms=num_arms, p_adjusted=p_adjusted)


@pytest.mark.parametrize(
    ("num_arms", "p_adjusted", "given", "word"),
    [
        (3, 0.05, {"p": 0.02}, "helps"),
        (3, 0.051, {"p": 0.02}, "cannot_tell"),
        (3, 0.051, {"p": 0.02, "difference": 0.01, "half": 0.005, "spread": 0.01}, "no_evidence"),
        (3, 0.03, {"p": 0.02, "half": 0.05}, "cannot_tell"),
        (3, 0.05, {"p": 0.016, "difference": -0.04}, "harms"),
        (3, 0.05, {"p": 0.017, "difference": -0.04}, "no_evidence"),
        (6, 0.3, {"p": 0.2, "difference": 0.0, "half": 0.01, "spread": 0.01}, "no_evidence"),
        (7, 0.3, {"p": 0.2, "difference": 0.0, "half": 0.01, "spread": 0.01}, "cannot_tell"),
    ],
)
def test_one_of_several_arms_pays_for_the_others(num_arms, p_adjusted, given, word):
    assert family(num_arms, p_adjusted, **given).word == word


def test_the_sentence_of_one_of_several_arms():
    assert (
        "against real oversampled to the same number of steps; Holm over 3 arms: p = 0.023, intervals at 98.3%; these"
        in family(3, 0.0234).sentence
    )
    lost = family(2, 0.06, p=0.03).sentence
    assert lost.startswith("Cannot tell whether adding gaussian (add, ratio 0.50) helps: balanced accuracy +0.040 ")
    assert "; a difference of 0.030 or more is not excluded; Holm over 2 arms: p = 0.060, intervals" in lost
    few = family(7, 0.3, p=0.2, difference=0.0, half=0.01, spread=0.01).sentence
    assert "8 paired repeats cannot reach p <= 0.05 over 7 arms (at best 0.0547)" in few


def test_json_of_one_of_several_arms():
    plain = family(4, 0.04).to_json()
    assert (plain["num_arms"], plain["p_adjusted"], plain["comparisons"][0]["level"]) == (4, 0.04, 0.9875)
    assert plain["primary"] == {"name": "balanced_accuracy", "specificity": 0.9, "positive": None, "class_name": ""}
    alone = decided(comparison(p=0.02), comparison("real_classic", p=0.03)).to_json()
    assert (alone["num_arms"], alone["p_adjusted"], alone["comparisons"][0]["level"]) == (1, 0.03, 0.95)


def test_the_p_of_an_arm_is_its_largest():
    assert largest_p({"a": comparison(p=0.01), "b": comparison(p=0.04)}) == 0.04


@pytest.mark.parametrize(
    ("made_for", "given", "message"),
    [
        (1, {"num_arms": 2, "p_adjusted": 0.01}, "num_arms is 2, but comparisons have intervals at level 0.95"),
        (2, {"num_arms": 2}, "p_adjusted is needed for one of 2 arms"),
        (1, {"num_arms": 0}, "num_arms must be at least 1, got 0"),
    ],
)
def test_decide_refuses_an_arm_of_another_family(made_for, given, message):
    with pytest.raises(ValueError, match=message):
        decided(comparison(num_arms=made_for), **given)


def test_intervals_of_several_arms_are_wider():
    winner, control = probabilities(1, 0.75), probabilities(2, 0.7)
    labels, groups = np.arange(240) % 3, np.arange(240)
    keys = {"control": "real_only", "primary": BALANCED, "seed": 0}
    one, four = (compare(winner, control, labels, groups, num_arms=m, **keys) for m in (1, 4))
    assert (one.level, four.level) == (0.95, 0.9875)
    assert (four.high - four.low) / (one.high - one.low) == pytest.approx(2.498 / 1.960, rel=0.08)
    assert four.detectable(0.03) / one.detectable(0.03) == pytest.approx((2.4977 + 0.8416) / 2.8016, rel=1e-3)
    assert (one.p, one.se) == (four.p, four.se)


def test_a_sentence_names_the_positive_class():
    primary = Primary("sensitivity", 0.95, 1)
    named = decided(comparison(), primary=replace(primary, class_name="melanoma"))
    assert named.sentence.startswith(
        "Adding gaussian (add, ratio 0.50) helps: sensitivity at specificity 0.95 (melanoma) +0.040 [+0.020, +0.060] "
    )
    assert named.to_json()["metric"] == "sensitivity_at_0.95/1"
    assert "at specificity 0.95 (class 1) +0.040" in decided(comparison(), primary=primary).sentence
