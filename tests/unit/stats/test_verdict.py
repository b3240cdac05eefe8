"""Every word of the verdict is reached, by the rule and by nothing else; the rule holds its level under a null."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medsynth_ray.stats.verdict import Comparison, compare, decide, no_candidate

WHAT = {"effect": 0.03, "winner": "gaussian (add, ratio 0.50)", "about": "pool", "metric": "balanced_accuracy"}
CONTROLS = ("real_only", "real_classic", "real_oversampled")


def comparison(control="real_only", difference=0.04, half=0.02, p=2 / 256, repeats=8, se=None) -> Comparison:
    return Comparison(
        control=control,
        difference=difference,
        low=difference - half,
        high=difference + half,
        p=p,
        se=half / 1.96 if se is None else se,
        repeats=(difference,) * repeats,
        per_class=(),
        num_images=1430,
        num_groups=820,
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
        ({"difference": -0.04, "half": 0.05}, "cannot_tell"),
        ({"difference": 0.002, "half": 0.01, "p": 0.4}, "no_evidence"),
        ({"difference": 0.002, "half": 0.06, "p": 0.4}, "cannot_tell"),
        ({"difference": 0.04, "half": 0.01, "repeats": 5, "p": 0.0625}, "cannot_tell"),
        ({"difference": 0.04, "half": 0.04}, "cannot_tell"),
        ({"difference": 0.04, "half": 0.02, "p": 0.05}, "helps"),
    ],
)
def test_the_rule(given, word):
    assert decided(comparison(**given)).word == word


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
        "real only (p = 0.400), although a true difference of 0.030 would very likely have been seen "
        "(detectable: 0.014); " + about
    )
    assert decided(comparison(difference=0.002, half=0.06, p=0.4)).sentence == (
        "Cannot tell whether adding gaussian (add, ratio 0.50) helps: balanced accuracy +0.002 [-0.058, +0.062] "
        "against real only; this test set shows only differences from about 0.086 on, not the stated 0.030; " + about
    )


def test_too_few_repeats_are_named_in_the_sentence():
    sentence = decided(comparison(difference=0.04, half=0.01, repeats=5, p=0.0625), about="method").sentence
    assert "; 5 paired repeats cannot reach p <= 0.05 (at best 0.0625); this generator (confirm.about: m" in sentence


def test_no_candidate():
    verdict = no_candidate("no pool passed its gates", effect=0.03, about="pool", metric="macro_f1", caveats=("x",))
    assert (verdict.word, verdict.winner, verdict.comparisons) == ("no_candidate", None, ())
    assert verdict.sentence == "No candidate: no pool passed its gates; the locked test was not opened."
    assert verdict.to_json()["caveats"] == ["x"]


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
    keys = {"metric": "balanced_accuracy", "seed": seed, "num_resamples": 300}
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


@pytest.mark.parametrize(
    ("winner", "message"),
    [(np.ones((2, 4, 2)), r"\(2, 4, 2\) and \(2, 5, 2\)"), (np.full((2, 5, 2), np.nan), "NaN")],
)
def test_compare_refuses(winner, message):
    with pytest.raises(ValueError, match=message):
        compare(
            winner, np.ones((2, 5, 2)), np.zeros(5, int), np.arange(5).astype(str), control="real_only",
            metric="accuracy", seed=0,
        )  # fmt: skip
