"""Thresholds from real images that a generator never saw, and what follows from how many others fall below them.

M values of unseen images, one for each group, since images of one patient are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import betaln, gammaln

from medsynth_ray.seeds import rng

_Z = 1.959963984540054
_BISECTIONS = 60


def one_per_group(groups: np.ndarray, seed: int) -> np.ndarray:
    """Rows of one image of each group, drawn by `seed`, in order: int64."""
    order = rng("one per group", seed).permutation(len(groups))
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])


def threshold(null: np.ndarray, share: float) -> tuple[float, int]:
    """The value below which `share` of values like `null` (M,) fall, and its rank: floor(share (M + 1)), at least 1.

    The share is rank / (M + 1) exactly, which is 1 / (M + 1) where M is too small for the one that was asked for.
    """
    rank = max(1, int(share * (len(null) + 1) + 1e-9))
    return float(np.partition(null, rank - 1)[rank - 1]), rank


def tail_p_value(count: int, num: int, rank: int, num_null: int) -> float:
    """P(K >= count), K ~ beta-binomial(num, rank, num_null + 1 - rank).

    K counts how many of `num` values fall below the `rank`-th smallest of `num_null` from the same, any continuous law.
    """
    if count <= 0:
        return 1.0
    k, a, b = np.arange(count, num + 1), rank, num_null + 1 - rank
    choose = gammaln(num + 1) - gammaln(k + 1) - gammaln(num - k + 1)
    return min(1.0, float(np.exp(choose + betaln(k + a, num - k + b) - betaln(a, b)).sum()))


def auc_below(x: np.ndarray, y: np.ndarray) -> float:
    """P(a value of x lies below one of y), ties counted half."""
    ordered = np.sort(y)
    below, up_to = (np.searchsorted(ordered, x, side=side) for side in ("left", "right"))
    return float(1.0 - (below + up_to).mean() / (2.0 * len(y)))


def auc_interval(auc: float, num_x: int, num_y: int) -> tuple[float, float]:
    """Score 95 % interval of an AUC: method 5 of Newcombe 2006 (Statistics in Medicine 25, 559).

    Unlike the Wald interval it is no point at an AUC of 1. Bounds are where |t - auc| = z sd(t), with Hanley and
    McNeil's variance in which num_x - 1 and num_y - 1 are both replaced by (num_x + num_y) / 2 - 1.
    """

    def excess(t: float) -> float:
        weight = (num_x + num_y) / 2 - 1
        scale = 1.0 + weight * ((1.0 - t) / (2.0 - t) + t / (1.0 + t))
        return abs(t - auc) - _Z * math.sqrt(max(t * (1.0 - t) * scale / (num_x * num_y), 0.0))

    return _crossing(excess, 0.0, auc), _crossing(excess, 1.0, auc)


def _crossing(excess: Callable[[float], float], outside: float, inside: float) -> float:
    if outside == inside:
        return outside
    for _ in range(_BISECTIONS):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
    return inside
