"""What predicted probabilities are worth against labels: every number finite, or left out where it is undefined."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from medsynth_ray.stats._ranks import sensitivity_at
from medsynth_ray.stats.primary import SPECIFICITIES, sensitivity_key

NUM_ECE_BINS = 15
_SMALLEST_PROB = 1e-7


def scores(probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score probabilities (N, K) against labels (N,) in [0, K).

    Keys: accuracy; balanced_accuracy (macro recall), macro_precision and macro_f1, means over classes (balanced: those
    that occur in `labels`; the others: those that occur in `labels` or predictions, a class that is never predicted
    has precision 0); macro_auc, one class against the rest, over classes where both occur (left out if there is none);
    recall/<class index> of classes that occur; log_loss in nats; ece_15, the expected calibration error of the top
    class in 15 equal bins (arXiv 1706.04599); brier, the squared error summed over classes, mean over images.

    Of each class against the rest, where both occur: auc/<c>; specificity/<c>, of the most probable class;
    sensitivity_at_0.80/<c> and so on for SPECIFICITIES, the largest share of c above a threshold that leaves
    that share of the other images at or below it.

    Raises:
        ValueError: shapes do not fit, no row, a value that is not finite, or a label outside [0, K).
    """
    table = confusion(probs, labels)
    support, predicted, hits = table.sum(axis=1), table.sum(axis=0), np.diag(table)
    seen = np.flatnonzero(support)
    recalls = hits[seen] / support[seen]
    named = (support + predicted) > 0
    own = probs[np.arange(len(labels)), labels].astype(np.float64)
    numbers = {
        "accuracy": hits.sum() / len(labels),
        "balanced_accuracy": recalls.mean(),
        "macro_precision": (hits[named] / np.maximum(predicted[named], 1)).mean(),
        "macro_f1": (2.0 * hits[named] / (support + predicted)[named]).mean(),
        "log_loss": -np.log(np.clip(own, _SMALLEST_PROB, 1.0)).mean(),
        "ece_15": _calibration_error(probs, labels),
    }
    numbers.update({f"recall/{c}": recall for c, recall in zip(seen, recalls, strict=True)})
    numbers["brier"] = ((probs.astype(np.float64) - np.eye(probs.shape[1])[labels]) ** 2).sum(axis=1).mean()
    both = [int(c) for c in seen if support[c] < len(labels)]
    areas = {c: _area(probs[:, c], labels == c) for c in both}
    if areas:
        numbers["macro_auc"] = np.mean(list(areas.values()))
    for c in both:
        numbers[f"auc/{c}"] = areas[c]
        numbers[f"specificity/{c}"] = 1.0 - (predicted[c] - hits[c]) / (len(labels) - support[c])
        for specificity in SPECIFICITIES:
            numbers[sensitivity_key(specificity, c)] = sensitivity_at(probs[:, c], labels == c, specificity)
    return {name: float(value) for name, value in numbers.items()}


def confusion(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Counts int64 (K, K): row the label, column the most probable class (the first of equals).

    Raises:
        ValueError: shapes do not fit, no row, a value that is not finite, or a label outside [0, K).
    """
    if probs.ndim != 2 or labels.shape != probs.shape[:1] or not len(labels):
        raise ValueError(f"need probs (N, K) and labels (N,) with N > 0, got {probs.shape} and {labels.shape}")
    if not np.isfinite(probs).all():
        raise ValueError(f"probs hold {int((~np.isfinite(probs)).sum())} values that are not finite")
    num_classes = probs.shape[1]
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels must be in [0, {num_classes}), got {labels.min()} to {labels.max()}")
    cells = labels.astype(np.int64) * num_classes + probs.argmax(axis=1)
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def _area(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney), ties counted half."""
    num_positive = int(positive.sum())
    rank_sum = rankdata(score)[positive].sum()
    return float((rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * (len(score) - num_positive)))


def _calibration_error(probs: np.ndarray, labels: np.ndarray) -> float:
    confidence = probs.max(axis=1).astype(np.float64)
    correct = probs.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * NUM_ECE_BINS).astype(np.int64) - 1, 0, NUM_ECE_BINS - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=NUM_ECE_BINS)
    return float(np.abs(gaps).sum() / len(labels))
