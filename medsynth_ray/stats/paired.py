"""Paired comparison of two arms: sign-flip test over repeats, two-way bootstrap over groups x repeats.

The two-way bootstrap draws groups and repeats independently with replacement ("pigeonhole bootstrap", Owen 2007,
arXiv 0711.2141), so that the interval covers other patients and other training runs. All sums of counts are whole
numbers in float64, hence exact: the result does not depend on the number of BLAS threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

MetricName = Literal["balanced_accuracy", "macro_f1", "accuracy"]

_MAX_EXACT_REPEATS = 20
_NUM_FLIPS = 100_000
_CHUNK = 250


@dataclass(frozen=True)
class ClassDifference:
    """Difference in recall of one class, with its 95 % interval. label: index of the class."""

    label: int
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """First arm minus second: mean over repeats, 95 % percentile interval, bootstrap standard error.

    repeats: the difference in each repeat (S,). per_class: classes that have an image, in order.
    """

    difference: float
    low: float
    high: float
    se: float
    repeats: tuple[float, ...]
    per_class: tuple[ClassDifference, ...]


def metric_of_confusion(confusion: np.ndarray, metric: MetricName) -> np.ndarray:
    """Score confusion matrices (..., K, K), rows the true class, as float64 (...).

    Means over classes run over those with a true image; a matrix without any image scores 0.

    Raises:
        ValueError: the metric is unknown or the matrix is not square.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    if confusion.ndim < 2 or confusion.shape[-1] != confusion.shape[-2]:
        raise ValueError(f"confusion must be (..., K, K), got shape {confusion.shape}")
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _score(correct, confusion.sum(axis=-2), confusion.sum(axis=-1), metric)


def sign_flip_p(differences: np.ndarray, *, seed: int = 0) -> float:
    """Test that paired differences (S,) are symmetric about 0: the two-sided p of their mean.

    Exact over all 2^S sign patterns up to S = 20, so never below 2 / 2^S; above, 100,000 patterns drawn with `seed`.

    Raises:
        ValueError: `differences` is not (S,), is empty or holds NaN or infinity.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"differences must be finite numbers (S,) with S >= 1, got {differences!r}")
    # Equal sums may differ in the last bits, because they were added in another order.
    limit = abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())
    if len(values) <= _MAX_EXACT_REPEATS:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= limit).mean())
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(10):
        signs = rng.integers(0, 2, (_NUM_FLIPS // 10, len(values))) * 2 - 1
        hits += int((np.abs((signs * values).sum(axis=1)) >= limit).sum())
    return (1 + hits) / (1 + _NUM_FLIPS)


def smallest_sign_flip_p(repeats: int) -> float:
    """The smallest two-sided p that `repeats` paired differences can reach: 2 / 2^S."""
    return float(2.0 ** (1 - repeats))


def two_way_bootstrap(
    labels: np.ndarray,
    groups: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    num_classes: int,
    metric: MetricName,
    seed: int,
    num_resamples: int = 2000,
) -> PairedDifference:
    """Bootstrap the difference of a metric between two arms over groups and repeats.

    Args:
        labels: int (N,) in [0, num_classes).
        groups: str (N,); images of one group are drawn together.
        first: predicted classes int (S, N) of one arm; row s is paired with row s of `second`.
        second: predicted classes int (S, N) of the other arm.
        num_classes: K.
        metric: what is compared; see `metric_of_confusion`.
        seed: of the resamples.
        num_resamples: B, at least 100.

    Raises:
        ValueError: shapes do not fit, there is no image, a class is outside [0, K), or B is too small.
    """
    labels, first, second = np.asarray(labels), np.asarray(first), np.asarray(second)
    counts = _group_counts(labels, np.asarray(groups), (first, second), num_classes, num_resamples)
    shape = (len(first), num_classes)
    whole, recalls = _differences(counts.sum(axis=0, keepdims=True), shape, metric)
    resamples, drawn_recalls = _resample(
        counts, shape, lambda drawn: _differences(drawn, shape, metric), seed=seed, num_resamples=num_resamples
    )
    low, high = np.quantile(resamples, [0.025, 0.975])
    return PairedDifference(
        difference=float(whole[0].mean()),
        low=float(low),
        high=float(high),
        se=float(resamples.std(ddof=1)),
        repeats=tuple(float(d) for d in whole[0]),
        per_class=_class_differences(recalls[0].mean(axis=0), drawn_recalls),
    )


def interval(
    labels: np.ndarray,
    groups: np.ndarray,
    predictions: np.ndarray,
    *,
    num_classes: int,
    metric: MetricName,
    seed: int,
    num_resamples: int = 2000,
) -> tuple[float, float, float]:
    """Score one arm: mean over repeats, and its 95 % two-way bootstrap interval (low, high).

    Arguments as in `two_way_bootstrap`; predictions: classes int (S, N).

    Raises:
        ValueError: as `two_way_bootstrap`.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    counts = _group_counts(labels, np.asarray(groups), (predictions,), num_classes, num_resamples)
    shape = (len(predictions), num_classes)
    (whole,) = _scores(counts.sum(axis=0, keepdims=True), shape, metric)
    (resamples,) = _resample(
        counts, shape, lambda drawn: _scores(drawn, shape, metric), seed=seed, num_resamples=num_resamples
    )
    low, high = np.quantile(resamples, [0.025, 0.975])
    return float(whole.mean()), float(low), float(high)


def _resample(
    counts: np.ndarray,
    shape: tuple[int, int],
    statistics: Callable[[np.ndarray], tuple[np.ndarray, ...]],
    *,
    seed: int,
    num_resamples: int,
) -> tuple[np.ndarray, ...]:
    """Draw groups and repeats; each statistic (b, S, ...) of the counts is averaged over its repeats: (B, ...)."""
    rng, num_repeats = np.random.default_rng(seed), shape[0]
    drawn = []
    for start in range(0, num_resamples, _CHUNK):
        size = min(_CHUNK, num_resamples - start)
        of_groups, of_repeats = _multiplicities(rng, size, len(counts)), _multiplicities(rng, size, num_repeats)
        values = statistics(of_groups @ counts)
        drawn.append([np.einsum("bs...,bs->b...", v, of_repeats, optimize=False) / num_repeats for v in values])
    return tuple(np.concatenate(parts) for parts in zip(*drawn, strict=True))


def _check(
    labels: np.ndarray, groups: np.ndarray, arms: Sequence[np.ndarray], num_classes: int, num_resamples: int
) -> None:
    if num_resamples < 100:
        raise ValueError(f"num_resamples must be at least 100, got {num_resamples}")
    n = len(labels)
    if n == 0 or groups.shape != (n,) or any(a.ndim != 2 or a.shape != (len(arms[0]), n) for a in arms):
        raise ValueError(
            f"need labels (N,), groups (N,) and predictions (S, N) of every arm with N >= 1; got {labels.shape}, "
            f"{groups.shape}, {', '.join(str(a.shape) for a in arms)}"
        )
    for name, values in (("labels", labels), *(("predictions", a) for a in arms)):
        if values.size == 0 or values.min() < 0 or values.max() >= num_classes:
            raise ValueError(f"{name} must hold classes in [0, {num_classes}) of at least one repeat")


def _score(correct: np.ndarray, predicted: np.ndarray, actual: np.ndarray, metric: MetricName) -> np.ndarray:
    """Metric from counts by class (..., K): predicted right, predicted at all, and there."""
    if metric == "accuracy":
        return _ratio(correct.sum(axis=-1), actual.sum(axis=-1))
    if metric == "balanced_accuracy":
        by_class = _ratio(correct, actual)
    elif metric == "macro_f1":
        by_class = _ratio(2.0 * correct, predicted + actual)
    else:
        raise ValueError(f"metric must be balanced_accuracy, macro_f1 or accuracy, got {metric!r}")
    present = actual > 0
    return _ratio((by_class * present).sum(axis=-1), present.sum(axis=-1))


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """The quotient of counts, 0 where `bottom` is 0."""
    top, bottom = np.broadcast_arrays(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
    quotient: np.ndarray = np.divide(top, bottom, out=np.zeros(top.shape), where=bottom > 0)
    return quotient


def _group_counts(
    labels: np.ndarray, groups: np.ndarray, arms: Sequence[np.ndarray], num_classes: int, num_resamples: int
) -> np.ndarray:
    """Counts by group, float64 (G, arms*2*S*K + K): correct and predicted of each arm, then actual."""
    _check(labels, groups, arms, num_classes, num_resamples)
    codes = np.unique(groups, return_inverse=True)[1]
    num_groups, num_repeats = int(codes.max()) + 1, len(arms[0])
    repeat, length = np.arange(num_repeats)[:, None], num_groups * num_repeats * num_classes
    blocks = []
    for predictions in arms:
        cell = (codes * num_repeats + repeat) * num_classes + predictions
        for chosen in (predictions == labels, np.ones(predictions.shape, dtype=bool)):
            blocks.append(np.bincount(cell[chosen], minlength=length).reshape(num_groups, -1))
    actual = np.bincount(codes * num_classes + labels, minlength=num_groups * num_classes)
    return np.concatenate([*blocks, actual.reshape(num_groups, -1)], axis=1).astype(np.float64)


def _parts(counts: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Undo the joining of `_group_counts`: blocks (B, arms*2, S, K) and actual (B, 1, K)."""
    num_classes = shape[1]
    return counts[:, :-num_classes].reshape(len(counts), -1, *shape), counts[:, None, -num_classes:]


def _scores(counts: np.ndarray, shape: tuple[int, int], metric: MetricName) -> tuple[np.ndarray, ...]:
    """The metric of each arm (B, S)."""
    blocks, actual = _parts(counts, shape)
    return tuple(_score(blocks[:, i], blocks[:, i + 1], actual, metric) for i in range(0, blocks.shape[1], 2))


def _differences(counts: np.ndarray, shape: tuple[int, int], metric: MetricName) -> tuple[np.ndarray, np.ndarray]:
    """Differences of the metric (B, S), and of each class's recall (B, S, K), NaN where the class has no image."""
    first, second = _scores(counts, shape, metric)
    blocks, actual = _parts(counts, shape)
    recalls = np.where(actual > 0, _ratio(blocks[:, 0] - blocks[:, 2], actual), np.nan)
    return first - second, recalls


def _multiplicities(rng: np.random.Generator, num_resamples: int, size: int) -> np.ndarray:
    """How often each of `size` units is drawn, float64 (B, size): rows sum to `size`."""
    picks = rng.integers(0, size, (num_resamples, size)) + np.arange(num_resamples)[:, None] * size
    return np.bincount(picks.ravel(), minlength=num_resamples * size).reshape(num_resamples, size).astype(np.float64)


def _class_differences(means: np.ndarray, resamples: np.ndarray) -> tuple[ClassDifference, ...]:
    rows = []
    for label in np.flatnonzero(np.isfinite(means)):
        drawn = resamples[:, label]
        low, high = np.quantile(drawn[np.isfinite(drawn)], [0.025, 0.975])
        rows.append(ClassDifference(int(label), float(means[label]), float(low), float(high)))
    return tuple(rows)
