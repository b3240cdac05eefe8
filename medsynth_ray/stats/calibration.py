"""Whether predicted probabilities can be taken at their word, before and after temperature scaling.

Expected calibration error (ECE) of the top class in 15 equal bins, and temperature scaling: Guo et al. 2017
(arXiv 1706.04599). Brier score: the sum over classes of squared errors, in [0, 2]. Intervals are bootstrapped over
groups; an ECE is never below 0 and grows with noise, so its interval tends to lie high.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from medsynth_ray.stats.group_bootstrap import as_numbers, measure, resampled_sums, sums_by_group, whole

NUM_BINS = 15
TEMPERATURES = (0.05, 20.0)
"""Lowest and highest temperature that is tried."""

_SMALLEST_PROB = 1e-7


def fit_temperature(probs: np.ndarray, labels: np.ndarray) -> float:
    """The temperature in `TEMPERATURES` that makes val probabilities (M, K) likeliest: softmax(log probs / T).

    Above 1: the classifier was too sure of itself. Log probabilities are logits but for a constant that softmax drops.

    Raises:
        ValueError: shapes do not fit, or there is no image.
    """
    if probs.ndim != 2 or labels.shape != probs.shape[:1] or not len(labels):
        raise ValueError(f"need val probs (M, K) and labels (M,) with M > 0, got {probs.shape} and {labels.shape}")
    logits = _logits(probs)
    own = logits[np.arange(len(labels)), labels]

    def loss(log_temperature: float) -> float:
        slope = np.exp(-log_temperature)
        return float((np.log(np.exp(logits * slope).sum(axis=1)) - own * slope).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded", options={"xatol": 1e-7})
    return float(np.exp(found.x))


def scaled(probs: np.ndarray, temperatures: Sequence[float]) -> np.ndarray:
    """softmax(log probs / T) of probabilities (S, N, K), with a temperature for each repeat: float64 (S, N, K)."""
    powers = np.exp(_logits(probs) / np.asarray(temperatures)[:, None, None])
    shares: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def calibration(
    probs: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    temperatures: Sequence[float] | None = None,
    seed: int,
    num_resamples: int = 500,
) -> dict[str, Any]:
    """ECE, Brier score and reliability bins of one arm.

    Args:
        probs: (S, N, K).
        labels: int (N,).
        groups: str (N,).
        temperatures: one for each repeat, fitted on val; None: nothing is scaled.
        seed: of the resamples.
        num_resamples: B.

    Returns:
        before, after: None (after, without temperatures) or ece and brier (value, the mean over repeats, low, high;
        the last two are None for a single group) and bins: confidence, accuracy (means of the bin over all repeats)
        and count (images, mean over repeats) of each bin that is not empty. temperatures: as given.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    after = None if temperatures is None else scaled(probs, temperatures)
    both = [probs.astype(np.float64), *([] if after is None else [after])]
    found = [_described(p, labels, codes, seed=seed, num_resamples=num_resamples) for p in both]
    return {
        "before": found[0],
        "after": found[1] if len(found) > 1 else None,
        "temperatures": None if temperatures is None else [float(t) for t in temperatures],
    }


def _described(
    probs: np.ndarray, labels: np.ndarray, codes: np.ndarray, *, seed: int, num_resamples: int
) -> dict[str, Any]:
    num_repeats, num_images, num_classes = probs.shape
    confidence, correct = probs.max(axis=2), probs.argmax(axis=2) == labels
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    squares = ((probs - np.eye(num_classes)[labels]) ** 2).sum(axis=2)
    repeat, num_gaps = np.arange(num_repeats)[:, None], num_repeats * NUM_BINS
    sums = np.concatenate(
        [
            sums_by_group(codes, repeat * NUM_BINS + bins, whole(correct - confidence), num_cells=num_gaps),
            sums_by_group(codes, np.zeros(1, dtype=np.int64), whole(squares), num_cells=1),
            sums_by_group(codes, np.zeros(1, dtype=np.int64), np.ones(num_images), num_cells=1),
        ],
        axis=1,
    )

    def scores(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        num = drawn[:, -1] * num_repeats
        return as_numbers(np.abs(drawn[:, :num_gaps]).sum(axis=1)) / num, as_numbers(drawn[:, -2]) / num

    drawn = scores(resampled_sums(sums, seed=seed, num_resamples=num_resamples)) if len(sums) > 1 else (None, None)
    values = scores(sums.sum(axis=0, keepdims=True))
    ece, brier = (measure(value[0], draws) for value, draws in zip(values, drawn, strict=True))
    return {"ece": ece, "brier": brier, "bins": _bins(bins, confidence, correct)}


def _bins(bins: np.ndarray, confidence: np.ndarray, correct: np.ndarray) -> list[dict[str, float]]:
    count = np.bincount(bins.ravel(), minlength=NUM_BINS)
    sure = np.bincount(bins.ravel(), weights=confidence.ravel(), minlength=NUM_BINS)
    right = np.bincount(bins.ravel(), weights=correct.ravel(), minlength=NUM_BINS)
    return [
        {
            "confidence": float(sure[b] / count[b]),
            "accuracy": float(right[b] / count[b]),
            "count": float(count[b] / len(bins)),
        }
        for b in np.flatnonzero(count)
    ]


def _logits(probs: np.ndarray) -> np.ndarray:
    """Log probabilities, the largest of each row 0 so that no power overflows."""
    logs = np.log(np.clip(probs.astype(np.float64), _SMALLEST_PROB, 1.0))
    shifted: np.ndarray = logs - logs.max(axis=-1, keepdims=True)
    return shifted
