"""The interval of one arm's score, by the same two-way bootstrap as the comparison of two arms."""

from __future__ import annotations

import numpy as np

from medsynth_ray.stats.paired import MetricName, metric_of_confusion

_CHUNK = 250


def interval(
    labels: np.ndarray,
    groups: np.ndarray,
    predictions: np.ndarray,
    *,
    num_classes: int,
    metric: MetricName,
    seed: int,
    num_resamples: int = 1000,
) -> tuple[float, float, float]:
    """Mean over repeats and 95 % percentile interval of a metric, over groups x repeats.

    labels: int (N,). groups: str (N,). predictions: int (S, N), a row for each repeat.

    Raises:
        ValueError: shapes do not fit or the metric is unknown.
    """
    num_repeats, n = predictions.shape
    if labels.shape != (n,) or groups.shape != (n,):
        raise ValueError(f"labels and groups must be ({n},), got {labels.shape} and {groups.shape}")
    codes = np.unique(groups, return_inverse=True)[1]
    num_groups, cells = int(codes.max()) + 1, num_classes * num_classes
    place = (codes * num_repeats + np.arange(num_repeats)[:, None]) * cells + labels * num_classes + predictions
    counts = np.bincount(place.ravel(), minlength=num_groups * num_repeats * cells).astype(np.float64)
    counts = counts.reshape(num_groups, num_repeats * cells)
    rng = np.random.default_rng(seed)
    drawn = []
    for start in range(0, num_resamples, _CHUNK):
        size = min(_CHUNK, num_resamples - start)
        by_group = rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size).astype(np.float64)
        by_repeat = rng.multinomial(num_repeats, np.full(num_repeats, 1 / num_repeats), size)
        shape = (size, num_repeats, num_classes, num_classes)
        scores = metric_of_confusion((by_group @ counts).reshape(shape), metric)
        drawn.append((scores * by_repeat).sum(axis=1) / num_repeats)
    whole = metric_of_confusion(counts.sum(axis=0).reshape(num_repeats, num_classes, num_classes), metric)
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return float(whole.mean()), float(low), float(high)
