"""Closed forms of ECE, Brier score and temperature; intervals under simulation."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.stats.calibration import TEMPERATURES, calibration, fit_temperature, scaled
from medsynth_ray.stats.scores import scores


def sure(confidence: float, right: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes; the first is predicted with one confidence, `right` of the labels agree: probs (N, 2), labels."""
    labels = np.repeat([0, 1], [right, wrong])
    return np.tile(np.array([confidence, 1 - confidence], dtype=np.float32), (right + wrong, 1)), labels


def alone(labels: np.ndarray) -> np.ndarray:
    return np.arange(len(labels)).astype(str)


@pytest.mark.parametrize(("confidence", "right", "wrong"), [(0.9, 30, 10), (0.6, 30, 10), (0.75, 30, 10)])
def test_ece_and_brier_of_one_bin(confidence: float, right: int, wrong: int) -> None:
    probs, labels = sure(confidence, right, wrong)
    found = calibration(probs[None], labels, alone(labels), seed=0)["before"]
    share = right / (right + wrong)
    assert found["ece"]["value"] == pytest.approx(abs(confidence - share), abs=1e-6)
    brier = 2 * (share * (1 - confidence) ** 2 + (1 - share) * confidence**2)
    assert found["brier"]["value"] == pytest.approx(brier, abs=1e-6)
    assert found["bins"] == [
        {"confidence": pytest.approx(confidence), "accuracy": share, "count": float(right + wrong)}
    ]


@pytest.mark.parametrize("num_classes", [2, 5])
def test_brier_of_uniform_and_of_perfect(num_classes: int) -> None:
    labels = np.arange(20) % num_classes
    uniform = np.full((1, 20, num_classes), 1 / num_classes)
    assert calibration(uniform, labels, alone(labels), seed=0)["before"]["brier"]["value"] == pytest.approx(
        1 - 1 / num_classes
    )
    perfect = calibration(np.eye(num_classes)[labels][None], labels, alone(labels), seed=0)["before"]
    assert (perfect["brier"]["value"], perfect["ece"]["value"]) == (0.0, 0.0)


def test_ece_is_that_of_the_scores() -> None:
    rng = np.random.default_rng(0)
    probs, labels = rng.dirichlet(np.ones(4), (3, 200)).astype(np.float32), rng.integers(0, 4, 200)
    found = calibration(probs, labels, alone(labels), seed=0)["before"]["ece"]
    assert found["value"] == pytest.approx(np.mean([scores(p, labels)["ece_15"] for p in probs]), abs=1e-9)


@pytest.mark.parametrize(
    ("confidence", "right", "wrong", "temperature"),
    [(0.9, 30, 10, 2.0), (0.75, 30, 10, 1.0), (0.75, 90, 10, 0.5), (0.9, 10, 10, TEMPERATURES[1])],
)
def test_temperature_in_closed_form(confidence: float, right: int, wrong: int, temperature: float) -> None:
    """The likeliest T makes the confidence the share of right ones: T = logit(confidence) / logit(share)."""
    probs, labels = sure(confidence, right, wrong)
    assert fit_temperature(probs, labels) == pytest.approx(temperature, rel=1e-4)


def test_scaling_keeps_predictions_and_mends_the_confidence() -> None:
    probs, labels = sure(0.9, 30, 10)
    found = calibration(probs[None], labels, alone(labels), temperatures=[2.0], seed=0)
    assert found["after"]["ece"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert found["after"]["bins"][0]["confidence"] == pytest.approx(0.75, abs=1e-6)
    assert found["temperatures"] == [2.0]
    rng = np.random.default_rng(1)
    many = rng.dirichlet(np.ones(5), (2, 50))
    after = scaled(many, [0.3, 4.0])
    np.testing.assert_array_equal(after.argmax(axis=2), many.argmax(axis=2))
    np.testing.assert_allclose(after.sum(axis=2), 1.0)
    np.testing.assert_allclose(scaled(many, [1.0, 1.0]), many, atol=1e-12)


def test_a_certain_mistake_does_not_overflow() -> None:
    probs, labels = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 7), np.array([0] * 4 + [1] * 6)
    found = fit_temperature(probs, labels)
    assert np.isfinite(found)
    assert found > 1.0


def test_the_interval_covers_the_brier_score() -> None:
    """Sure to 0.8 and right 7 times of 10: a Brier score of 2 (0.7 * 0.2^2 + 0.3 * 0.8^2) = 0.44."""
    rng, hits = np.random.default_rng(2), 0
    for seed in range(200):
        labels = (rng.random(100) > 0.7).astype(int)
        probs = np.tile([0.8, 0.2], (1, 100, 1))
        found = calibration(probs, labels, alone(labels), seed=seed, num_resamples=200)["before"]["brier"]
        hits += found["low"] <= 0.44 <= found["high"]
    assert 0.89 <= hits / 200 <= 0.99


def test_images_of_one_group_are_drawn_together() -> None:
    rng = np.random.default_rng(3)
    probs, labels = np.tile([0.8, 0.2], (1, 60, 1)), (rng.random(60) > 0.7).astype(int)
    apart = calibration(probs, labels, alone(labels), seed=0)["before"]["brier"]
    thrice = calibration(probs.repeat(3, axis=1), labels.repeat(3), alone(labels).repeat(3), seed=0, num_resamples=500)[
        "before"
    ]["brier"]
    assert thrice == {key: pytest.approx(value, abs=1e-9) for key, value in apart.items()}


def test_a_single_group_has_no_interval() -> None:
    probs, labels = sure(0.9, 30, 10)
    found = calibration(probs[None], labels, np.full(40, "p"), seed=0)["before"]["ece"]
    assert (found["low"], found["high"]) == (None, None)
    assert found["value"] == pytest.approx(0.15, abs=1e-6)


def test_the_order_of_images_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    probs, labels, groups = rng.dirichlet(np.ones(3), (2, 90)), rng.integers(0, 3, 90), rng.integers(0, 30, 90)
    turn = rng.permutation(90)
    first = calibration(probs, labels, groups.astype(str), seed=5)["before"]
    second = calibration(probs[:, turn], labels[turn], groups[turn].astype(str), seed=5)["before"]
    assert (first["ece"], first["brier"]) == (second["ece"], second["brier"])


def test_val_without_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"M > 0, got \(0, 2\) and \(0,\)"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, dtype=int))
