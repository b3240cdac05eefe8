"""Paired comparison of two arms: sign-flip test over repeats, two-way bootstrap over groups x repeats.

The two-way bootstrap draws groups and repeats independently with replacement ("pigeonhole bootstrap", Owen 2007,
arXiv 0711.2141), so that the interval covers other patients and other training runs. Metrics of the most probable
class are functions of counts. macro_auc and sensitivity are functions of ranks: how many negatives, each counted as
often as its group was drawn, lie below each positive. Nothing is sorted again for a resample, and nothing approximated.
All sums are of whole numbers in float64, hence exact: the result does not depend on the number of BLAS threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medsynth_ray.stats._ranks import rank_classes
from medsynth_ray.stats.primary import MetricName, Primary

_MAX_EXACT_REPEATS = 20
_NUM_FLIPS = 100_000
_CHUNK = 250
_RANKED = ("macro_auc", "sensitivity")
_TAILS = (0.025, 0.975)


@dataclass(frozen=True)
class ClassDifference:
    """Difference in recall of one class, with its 95 % interval. label: index of the class."""

    label: int
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """First arm minus second: mean over repeats, percentile interval (95 % by default), bootstrap standard error.

    repeats: the difference in each repeat (S,). per_class: recalls of the classes that have an image, in order.
    """

    difference: float
    low: float
    high: float
    se: float
    repeats: tuple[float, ...]
    per_class: tuple[ClassDifference, ...]


def metric_of_confusion(confusion: np.ndarray, metric: MetricName) -> np.ndarray:
    """Score confusion matrices (..., K, K), rows the true class, by a metric of the most probable class: float64 (...).

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


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values for their number (Holm 1979), so that any of them <= 0.05 by chance has probability <= 0.05.

    Returns:
        The adjusted p of each name, in the order given; one alone stays as it is.

    Raises:
        ValueError: a p lies outside [0, 1].
    """
    if wrong := {name: p for name, p in p_values.items() if not 0.0 <= p <= 1.0}:
        raise ValueError(f"p-values must lie in [0, 1], got {wrong}")
    adjusted, largest = {}, 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def two_way_bootstrap(
    labels: np.ndarray,
    groups: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    primary: Primary,
    seed: int,
    num_resamples: int = 2000,
    alpha: float = 0.05,
) -> PairedDifference:
    """Bootstrap the difference of a metric between two arms over groups and repeats.

    A resample in which macro_auc or sensitivity is not defined (no image of the class, or of no other) is left out.

    Args:
        labels: int (N,) in [0, K).
        groups: str (N,); images of one group are drawn together.
        first: class probabilities (S, N, K) of one arm; row s is paired with row s of `second`.
        second: class probabilities (S, N, K) of the other arm.
        primary: what is compared.
        seed: of the resamples.
        num_resamples: B, at least 100.
        alpha: the interval leaves out alpha / 2 on either side; those of classes are always 95 %.

    Raises:
        ValueError: shapes do not fit, there is no image, a label is outside [0, K), a probability is not finite, B is
            too small, or the metric is not defined on these labels.
    """
    arms = _Arms(labels, groups, (first, second), primary)
    whole, recalls = arms.differences(np.ones((1, arms.num_groups)))
    resamples, drawn_recalls = _resample(arms, arms.differences, seed=seed, num_resamples=num_resamples)
    resamples = resamples[np.isfinite(resamples)]
    low, high = np.quantile(resamples, [alpha / 2.0, 1.0 - alpha / 2.0])
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
    probs: np.ndarray,
    *,
    primary: Primary,
    seed: int,
    num_resamples: int = 2000,
) -> tuple[float, float, float]:
    """Score one arm: mean over repeats, and its 95 % two-way bootstrap interval (low, high).

    Arguments as in `two_way_bootstrap`; probs: class probabilities (S, N, K).

    Raises:
        ValueError: as `two_way_bootstrap`.
    """
    arms = _Arms(labels, groups, (probs,), primary)
    (whole,) = arms.scores(np.ones((1, arms.num_groups)))
    (resamples,) = _resample(arms, arms.scores, seed=seed, num_resamples=num_resamples)
    low, high = np.quantile(resamples[np.isfinite(resamples)], _TAILS)
    return float(whole.mean()), float(low), float(high)


def repeat_scores(labels: np.ndarray, probs: np.ndarray, primary: Primary) -> np.ndarray:
    """Score each repeat of one arm's probabilities (S, N, K): float64 (S,).

    Raises:
        ValueError: as `two_way_bootstrap`.
    """
    arms = _Arms(labels, np.zeros(len(labels), dtype=np.int64), (probs,), primary)
    whole: np.ndarray = arms.scores(np.ones((1, 1)))[0][0]
    return whole


class _Arms:
    """One arm or two, ready to be scored on many resamples of the groups.

    `drawn` is how often each group was drawn, float64 (B, G).
    """

    def __init__(self, labels: np.ndarray, groups: np.ndarray, probs: Sequence[np.ndarray], primary: Primary) -> None:
        labels, groups, probs = np.asarray(labels), np.asarray(groups), [np.asarray(p) for p in probs]
        _check(labels, groups, probs, primary)
        self._primary = primary
        self._codes = np.unique(groups, return_inverse=True)[1]
        self.num_groups, self.num_repeats = int(self._codes.max()) + 1, len(probs[0])
        self._shape = (self.num_repeats, probs[0].shape[2])
        self._counts = _group_counts(labels, self._codes, [p.argmax(axis=2) for p in probs], self._shape[1])
        self._ranks = rank_classes(labels, probs, primary) if primary.name in _RANKED else []

    def scores(self, drawn: np.ndarray) -> tuple[np.ndarray, ...]:
        """The metric of each arm (B, S); NaN in resamples where it is not defined."""
        if not self._ranks:
            return _scores(drawn @ self._counts, self._shape, self._primary.name)
        return self._ranked(drawn)

    def differences(self, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Differences of the metric (B, S), and of each class's recall (B, S, K), NaN where the class has no image."""
        totals = drawn @ self._counts
        blocks, actual = _parts(totals, self._shape)
        recalls = np.where(actual > 0, _ratio(blocks[:, 0] - blocks[:, 2], actual), np.nan)
        first, second = self._ranked(drawn) if self._ranks else _scores(totals, self._shape, self._primary.name)
        return first - second, recalls

    def _ranked(self, drawn: np.ndarray) -> tuple[np.ndarray, ...]:
        """Means over classes of the scores by rank, of each arm (B, S)."""
        weights = drawn[:, self._codes]
        by_class = np.stack([ranks.scores(weights, self._primary) for ranks in self._ranks])
        defined = np.isfinite(by_class)
        means = _ratio(np.where(defined, by_class, 0.0).sum(axis=0), defined.sum(axis=0))
        return tuple(np.where(defined.any(axis=0), means, np.nan))


def _resample(
    arms: _Arms, statistics: Callable[[np.ndarray], tuple[np.ndarray, ...]], *, seed: int, num_resamples: int
) -> tuple[np.ndarray, ...]:
    """Draw groups and repeats; each statistic (b, S, ...) of the groups is averaged over the repeats: (B, ...)."""
    if num_resamples < 100:
        raise ValueError(f"num_resamples must be at least 100, got {num_resamples}")
    rng, num_repeats = np.random.default_rng(seed), arms.num_repeats
    drawn = []
    for start in range(0, num_resamples, _CHUNK):
        size = min(_CHUNK, num_resamples - start)
        of_groups, of_repeats = _multiplicities(rng, size, arms.num_groups), _multiplicities(rng, size, num_repeats)
        values = statistics(of_groups)
        drawn.append([np.einsum("bs...,bs->b...", v, of_repeats, optimize=False) / num_repeats for v in values])
    return tuple(np.concatenate(parts) for parts in zip(*drawn, strict=True))


def _check(labels: np.ndarray, groups: np.ndarray, probs: Sequence[np.ndarray], primary: Primary) -> None:
    n, shape = len(labels), probs[0].shape
    if (
        n == 0
        or groups.shape != (n,)
        or any(p.ndim != 3 or not p.size or p.shape != (*shape[:1], n, *shape[2:]) for p in probs)
    ):
        raise ValueError(
            f"need labels (N,), groups (N,) and probabilities (S, N, K) of every arm with S, N, K >= 1; got "
            f"{labels.shape}, {groups.shape}, {', '.join(str(p.shape) for p in probs)}"
        )
    if labels.min() < 0 or labels.max() >= shape[2]:
        raise ValueError(f"labels must be in [0, {shape[2]}), got {labels.min()} to {labels.max()}")
    if not all(np.isfinite(p).all() for p in probs):
        raise ValueError("probabilities must be finite, got NaN or infinity")
    if primary.name == "sensitivity" and not 0 < (labels == primary.positive).mean() < 1:
        raise ValueError(f"{primary.key} needs images of class {primary.positive} and of others among the labels")
    if primary.name == "macro_auc" and (labels == labels[0]).all():
        raise ValueError(f"macro_auc needs images of two classes, got only class {labels[0]}")


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


def _group_counts(labels: np.ndarray, codes: np.ndarray, arms: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
    """Counts by group, float64 (G, arms*2*S*K + K): correct and predicted of each arm's classes (S, N), then actual."""
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
