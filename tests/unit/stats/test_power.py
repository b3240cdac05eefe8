"""The power formula against its closed form, against the table of the notes, and against simulation of the rule."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from medsynth_ray.stats.paired import sign_flip_p, two_way_bootstrap
from medsynth_ray.stats.power import Pilot, detectable_difference, min_repeats, pilot, plan_power, power_line
from medsynth_ray.stats.primary import Primary

NOISE = {"discordance": 0.12, "repeat_sd": 0.01}
Z = 1.959964 + 0.841621


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "macro_f1", "macro_auc"])
def test_balanced_classes_have_a_closed_form(metric):
    # K equal classes: (1/K^2) sum q / (n/K) = q / n, whatever the metric.
    found = detectable_difference([225] * 4, repeats=8, primary=Primary(metric), **NOISE)
    assert found == pytest.approx(Z * math.sqrt(0.12 / 900 + 2e-4 / 8), rel=1e-5)


def test_a_rare_class_blunts_balanced_accuracy_only():
    balanced = detectable_difference([880, 20], repeats=8, primary=Primary("balanced_accuracy"), **NOISE)
    assert balanced == pytest.approx(Z * math.sqrt(0.12 * (1 / 880 + 1 / 20) / 4 + 2e-4 / 8), rel=1e-5)
    assert detectable_difference([880, 20], repeats=8, primary=Primary("accuracy"), **NOISE) < 0.4 * balanced


def test_many_images_of_few_patients_count_as_patients():
    grouped = detectable_difference([500, 500], group_counts=[50, 40], repeats=8, **NOISE)
    assert grouped == detectable_difference([50, 40], repeats=8, **NOISE)


def test_a_class_without_test_images_is_left_out():
    without = detectable_difference([100, 100], repeats=8, **NOISE)
    assert detectable_difference([100, 0, 100], repeats=8, **NOISE) == without


@pytest.mark.parametrize(("effect", "images"), [(0.02, 1960), (0.03, 870), (0.05, 312)])
def test_images_needed_match_mcnemar_at_ten_percent_discordance(effect, images):
    # notes/evaluation.md 4b, statsmodels; the formula leaves out the small term effect^2 of the variance.
    primary = Primary("accuracy")
    found = plan_power([100, 100], repeats=8, effect=effect, discordance=0.1, repeat_sd=0.0, primary=primary)
    assert found.images_needed == pytest.approx(images, rel=0.02)


@pytest.mark.parametrize(("alpha", "repeats"), [(0.05, 6), (0.01, 8), (0.5, 2)])
def test_min_repeats(alpha, repeats):
    assert min_repeats(alpha) == repeats


def test_what_is_needed_is_enough():
    short = plan_power([100, 60], repeats=8, effect=0.05, **NOISE)
    factor = short.images_needed / 160
    grown = np.ceil(np.array([100, 60]) * factor).astype(int)
    assert not short.sufficient
    assert plan_power(grown, repeats=8, effect=0.05, **NOISE).sufficient
    noisy = plan_power([4000, 4000], repeats=6, effect=0.03, discordance=0.12, repeat_sd=0.03)
    assert noisy.repeats_needed == 19
    assert plan_power([4000, 4000], repeats=19, effect=0.03, discordance=0.12, repeat_sd=0.03).sufficient
    assert not plan_power([4000, 4000], repeats=18, effect=0.03, discordance=0.12, repeat_sd=0.03).sufficient


@pytest.mark.parametrize(
    ("counts", "repeats", "repeat_sd", "parts"),
    [
        ([2000, 2000], 8, 0.01, ["4,000 test images and 8 paired repeats", "enough for the stated effect of 0.030"]),
        ([60, 60], 8, 0.01, ["too coarse for the stated effect of 0.030", "about 1,339 test images"]),
        ([2000, 2000], 5, 0.01, ["5 repeats cannot reach p <= 0.05 by sign flip (at best 0.0625); 6 can", "s 6 r"]),
        ([60, 60], 5, 0.01, ["too coarse", "cannot reach", "test images (and groups in proportion) with 6 repeats."]),
        ([60, 60], 6, 0.05, ["needs more test images and more repeats together"]),
        ([4000, 4000], 6, 0.03, ["It needs 19 repeats."]),
    ],
)
def test_the_line_says_what_is_missing(counts, repeats, repeat_sd, parts):
    line = power_line(plan_power(counts, repeats=repeats, effect=0.03, discordance=0.12, repeat_sd=repeat_sd))
    assert [part for part in parts if part not in line] == []
    assert line.endswith(".")


def test_to_json_is_plain():
    plain = plan_power(np.array([60, 60]), repeats=8, effect=0.03, **NOISE).to_json()
    assert {type(v) for k, v in plain.items() if k != "primary"} <= {str, int, float, bool, type(None)}
    assert plain["primary"] == {"name": "balanced_accuracy", "specificity": 0.9, "positive": None, "class_name": ""}
    assert (plain["metric"], plain["pilot"]) == ("balanced_accuracy", None)
    assert (plain["discordance"], plain["repeat_sd"]) == (0.12, 0.01)
    assert plain["line"].startswith(
        "With 120 test images and 8 paired repeats, a difference in balanced accuracy of 0.090 or more is found 80% of "
        "the time (assuming that two arms disagree on 12 % of the images and repeats vary by 0.010; for one control): "
    )


@pytest.mark.parametrize(("counts", "groups"), [([0, 0], None), ([10, 10], [5]), ([], None)])
def test_refuses_what_is_no_test_set(counts, groups):
    with pytest.raises(ValueError, match="counts of each class"):
        detectable_difference(counts, group_counts=groups, repeats=8, **NOISE)


SENSITIVITY = Primary("sensitivity", 0.9, 1)


def test_sensitivity_is_a_matter_of_the_positives():
    found = detectable_difference([2000, 80, 500], repeats=8, primary=SENSITIVITY, **NOISE)
    assert found == pytest.approx(Z * math.sqrt(0.12 / 80 + 2e-4 / 8), rel=1e-5)
    grouped = detectable_difference([2000, 80], group_counts=[900, 40], repeats=8, primary=SENSITIVITY, **NOISE)
    assert grouped == pytest.approx(Z * math.sqrt(0.12 / 40 + 2e-4 / 8), rel=1e-5)


@pytest.mark.parametrize("counts", [[100, 0, 100], [100]])
def test_sensitivity_needs_a_positive_image(counts):
    with pytest.raises(ValueError, match="sensitivity_at_0.90/1 needs test images of class 1"):
        detectable_difference(counts, repeats=8, primary=SENSITIVITY, **NOISE)


def test_the_line_calls_the_positive_class_by_its_name():
    primary = replace(SENSITIVITY, class_name="melanoma")
    design = plan_power([2000, 80], repeats=8, effect=0.03, primary=primary, **NOISE)
    line = power_line(design)
    assert "a difference in sensitivity at specificity 0.90 (melanoma) of 0.109 or more" in line
    assert "two arms disagree on 12 % of the images of that class and repeats vary by 0.010" in line
    assert design.to_json()["line"] == line


def repeats_that_flip(shares, num_images=400):
    """(R, N, 2) of repeats that are wrong on other images each, a share of each repeat; labels are 0 and 1 by turns."""
    labels = np.arange(num_images) % 2
    wrong, start = np.zeros((len(shares), num_images), dtype=bool), 0
    for row, share in zip(wrong, shares, strict=True):
        stop = start + round(share * num_images)
        row[start:stop], start = True, stop
    return np.eye(2)[np.where(wrong, 1 - labels, labels)], labels


def test_a_pilot_of_known_repeats():
    # Wrong on 5, 10 and 15 % of the images, never the same: pairs disagree on 15, 20 and 25 %.
    found = pilot(*repeats_that_flip([0.05, 0.10, 0.15]), Primary("balanced_accuracy"))
    assert (found.discordance, found.num_repeats) == (pytest.approx(0.20), 3)
    assert (found.mean, found.repeat_sd) == (pytest.approx(0.90), pytest.approx(0.05))
    # Lower 20 % point of chi-square with 2 degrees of freedom: -2 ln 0.8 = 0.4463.
    assert found.repeat_sd_upper == pytest.approx(0.05 * math.sqrt(2 / 0.44628710), rel=1e-7)


@pytest.mark.parametrize("repeats", [2, 3, 8])
def test_the_upper_bound_of_a_pilot_holds_in_four_of_five(repeats):
    rng, share = np.random.default_rng(repeats), []
    for wrong in rng.normal(0.1, 0.02, (400, repeats)):
        share.append(pilot(*repeats_that_flip(wrong, 1000), Primary("accuracy")).repeat_sd_upper >= 0.02)
    assert np.mean(share) == pytest.approx(0.8, abs=0.06)


def test_a_pilot_of_sensitivity_looks_at_the_positives_and_their_threshold():
    # Ten negatives from 0.0 to 0.9: at specificity 0.9 the threshold is 0.8.
    labels = np.array([0] * 10 + [1] * 4)
    negatives = np.arange(10) / 10
    score = np.array([[*negatives, 0.95, 0.85, 0.75, 0.1], [*negatives, 0.95, 0.75, 0.85, 0.1]])
    found = pilot(np.stack([1 - score, score], axis=2), labels, SENSITIVITY)
    assert (found.mean, found.repeat_sd, found.discordance) == (0.5, 0.0, 0.5)


MEASURED = {"repeat_sd": 0.01, "repeat_sd_upper": 0.02, "num_repeats": 3, "mean": 0.8}


def test_a_pilot_takes_the_place_of_the_deviation_that_was_assumed():
    found = plan_power([900, 900], repeats=8, effect=0.03, **NOISE, pilot=Pilot(discordance=0.2, **MEASURED))
    expected = detectable_difference([900, 900], repeats=8, discordance=NOISE["discordance"], repeat_sd=0.01)
    assert (found.detectable, found.repeat_sd) == (pytest.approx(expected), 0.01)
    assert (
        "(assuming that two arms disagree on 12 % of the images; repeats vary by 0.010, at most 0.020 with 80 % "
        "confidence, in a pilot of 3, any two of which disagree on 20 %; for one control)" in found.to_json()["line"]
    )
    assert found.to_json()["pilot"]["num_repeats"] == 3


@pytest.mark.parametrize("shape", [(1, 4, 2), (4, 2)])
def test_a_pilot_needs_two_repeats(shape):
    with pytest.raises(ValueError, match="at least 2 repeats"):
        pilot(np.ones(shape), np.array([0, 1, 0, 1]), Primary("accuracy"))


def test_simulated_power_is_near_what_was_promised():
    counts, repeats, discordance, repeat_sd = (200, 100), 8, 0.12, 0.01
    effect = detectable_difference(counts, repeats=repeats, discordance=discordance, repeat_sd=repeat_sd)
    found = [_detects(seed, counts, repeats, effect, discordance, repeat_sd) for seed in range(100)]
    assert 0.65 <= np.mean(found) <= 0.95


def _detects(seed, counts, repeats, effect, discordance, repeat_sd) -> bool:
    """One sweep in which the images on which the arms disagree are the same in every repeat, as the formula has it."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    draw = rng.random(len(labels))
    wins, loses = draw < (discordance + effect) / 2, draw > 1 - (discordance - effect) / 2
    hit = rng.random((1, len(labels))) < 0.8
    hits = np.stack([(hit | wins) & ~loses, (hit | loses) & ~wins]) & np.ones((1, repeats, 1), dtype=bool)
    # A repeat moves each arm's score by about repeat_sd: it flips that share of all its images one way.
    push = rng.normal(0, repeat_sd, (2, repeats, 1))
    flip = rng.random(hits.shape) < np.abs(push)
    hits = np.where(flip, push > 0, hits)
    first, second = np.where(hits, labels, 1 - labels)
    groups = np.arange(len(labels)).astype(str)
    keys = {"primary": Primary("balanced_accuracy"), "num_resamples": 400}
    result = two_way_bootstrap(labels, groups, np.eye(2)[first], np.eye(2)[second], seed=seed, **keys)
    return sign_flip_p(np.array(result.repeats)) <= 0.05 and result.low > 0
