"""scikit-learn as oracle; nothing that is not finite ever leaves."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from medsynth_ray.stats.scores import confusion, scores


def predictions(n: int, num_classes: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % num_classes)
    logits = rng.normal(size=(n, num_classes)) + 1.2 * np.eye(num_classes)[labels]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs, labels


def largest_sensitivity(positive: np.ndarray, score: np.ndarray, specificity: float) -> float:
    """Of all points of scikit-learn's ROC curve, the highest whose specificity is large enough."""
    false_share, true_share, _ = roc_curve(positive, score, drop_intermediate=False)
    return float(true_share[1.0 - false_share >= specificity - 1e-12].max())


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_scikit_learn_agrees(num_classes: int) -> None:
    probs, labels = predictions(200, num_classes)
    predicted, found = probs.argmax(axis=1), scores(probs, labels)
    single = {"y_score": probs[:, 1]} if num_classes == 2 else {"y_score": probs, "multi_class": "ovr"}
    expected = {
        "accuracy": accuracy_score(labels, predicted),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted),
        "macro_precision": precision_score(labels, predicted, average="macro"),
        "macro_f1": f1_score(labels, predicted, average="macro"),
        "macro_auc": roc_auc_score(labels, **single),
        "log_loss": log_loss(labels, probs),
    }
    expected |= {f"recall/{c}": r for c, r in enumerate(recall_score(labels, predicted, average=None))}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    expected |= {f"auc/{c}": roc_auc_score(labels == c, probs[:, c]) for c in range(num_classes)}
    expected |= {f"specificity/{c}": recall_score(labels != c, predicted != c) for c in range(num_classes)}
    expected |= {
        f"sensitivity_at_{s:.2f}/{c}": largest_sensitivity(labels == c, probs[:, c], s)
        for c in range(num_classes)
        for s in (0.8, 0.9, 0.95, 0.99)
    }
    expected["brier"] = ((probs - np.eye(num_classes)[labels]) ** 2).sum(axis=1).mean()
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert set(found) == set(expected) | {"ece_15"}
    np.testing.assert_array_equal(confusion(probs, labels), confusion_matrix(labels, predicted))


def test_ece_of_a_known_case() -> None:
    """Ten images at 0.8 of which six are right, ten at 0.6 of which all are right: |.6 - .8| / 2 + |1 - .6| / 2."""
    probs = np.array([[0.8, 0.2]] * 10 + [[0.4, 0.6]] * 10)
    labels = np.array([0] * 6 + [1] * 4 + [1] * 10)
    assert scores(probs, labels)["ece_15"] == pytest.approx(0.3)


def test_calibrated_predictions_have_a_small_ece() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(size=50_000)
    labels = (rng.uniform(size=50_000) > first).astype(int)
    assert scores(np.stack([first, 1 - first], axis=1), labels)["ece_15"] < 0.01


def test_an_absent_class_is_left_out() -> None:
    probs, labels = predictions(60, 3)
    found = scores(probs[labels < 2], labels[labels < 2])
    assert not {"recall/2", "auc/2", "specificity/2", "sensitivity_at_0.90/2"} & set(found)
    assert found["balanced_accuracy"] == pytest.approx((found["recall/0"] + found["recall/1"]) / 2)
    assert np.isfinite(list(found.values())).all()


def test_a_class_that_is_never_predicted_has_precision_0() -> None:
    probs, labels = np.eye(3)[[0, 0, 1, 1]], np.array([0, 2, 1, 1])
    assert scores(probs, labels)["macro_precision"] == pytest.approx((0.5 + 1.0 + 0.0) / 3)


def test_one_class_alone_has_no_auc() -> None:
    found = scores(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
    assert [name for name in found if name.startswith(("macro_auc", "auc", "specificity", "sensitivity"))] == []
    assert found["brier"] == pytest.approx((2 * 0.1**2 + 2 * 0.8**2) / 2)
    assert found["balanced_accuracy"] == 0.5


def test_a_sure_mistake_has_a_finite_loss() -> None:
    found = scores(np.array([[1.0, 0.0]], dtype=np.float32), np.array([1]))
    assert found["log_loss"] == pytest.approx(-np.log(1e-7))
    assert found["ece_15"] == 1.0


def test_ties_count_half_in_the_auc() -> None:
    probs = np.full((10, 2), 0.5)
    assert scores(probs, np.arange(10) % 2)["macro_auc"] == 0.5


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        (np.ones((3, 2)), np.zeros(4, int), r"got \(3, 2\) and \(4,\)"),
        (np.ones((0, 2)), np.zeros(0, int), "N > 0"),
        (np.full((3, 2), np.nan), np.zeros(3, int), "6 values that are not finite"),
        (np.ones((3, 2)), np.array([0, 1, 2]), r"labels must be in \[0, 2\), got 0 to 2"),
        (np.ones((3, 2)), np.array([0, -1, 1]), "got -1 to 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(probs: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores(probs, labels)


def test_sensitivity_at_a_specificity_is_counted() -> None:
    """Negatives at 0.0, 0.1 .. 0.9. At 0.9 one of the ten may lie above: the threshold is 0.8; at 0.95 none: 0.9."""
    negatives, positives = np.arange(10) / 10, np.array([0.8, 0.85, 0.9, 0.95])
    score = np.concatenate([negatives, positives])
    found = scores(np.stack([1 - score, score], axis=1), np.repeat([0, 1], [10, 4]))
    expected = {"0.80": 1.0, "0.90": 0.75, "0.95": 0.25, "0.99": 0.25}
    assert {key: found[f"sensitivity_at_{key}/1"] for key in expected} == expected


def test_equal_scores_detect_nothing() -> None:
    found = scores(np.full((20, 2), 0.5), np.arange(20) % 2)
    assert (found["sensitivity_at_0.80/0"], found["sensitivity_at_0.80/1"]) == (0.0, 0.0)
