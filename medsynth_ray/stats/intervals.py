"""Closed-form intervals: of a share (Wilson 1927), of a difference of two shares (Newcombe 1998), of a mean (t)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from scipy.stats import t

_Z = NormalDist().inv_cdf(0.975)


def wilson(share: float, num: int) -> tuple[float, float]:
    """95 % score interval (low, high) of a share in [0, 1] of `num` images.

    Raises:
        ValueError: `share` lies outside [0, 1] or `num` is below 1.
    """
    if num < 1 or not 0.0 <= share <= 1.0:
        raise ValueError(f"need a share in [0, 1] of at least 1 image, got {share} of {num}")
    widen = _Z**2 / num
    centre = (share + widen / 2) / (1 + widen)
    half = _Z / (1 + widen) * math.sqrt(share * (1 - share) / num + widen / (4 * num))
    return max(0.0, centre - half), min(1.0, centre + half)


def share_difference(first: float, second: float, num: int) -> tuple[float, float]:
    """95 % interval of `first` - `second`, shares of `num` images each, as if the images were not the same.

    Newcombe's hybrid score interval (method 10, doi 10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I).

    Raises:
        ValueError: as `wilson`.
    """
    (low_1, high_1), (low_2, high_2) = wilson(first, num), wilson(second, num)
    difference = first - second
    low = difference - math.hypot(first - low_1, high_2 - second)
    return low, difference + math.hypot(high_1 - first, second - low_2)


def callable_images(share: float, num: int) -> int | None:
    """How many of `num` more images must be right than at `share` for `share_difference` to leave 0 out.

    None: not even all of them.

    Raises:
        ValueError: as `wilson`.
    """
    most = math.floor(num * (1 - share) + 1e-9)
    return next((k for k in range(1, most + 1) if share_difference(min(1.0, share + k / num), share, num)[0] > 0), None)


def callable_pairs(alpha: float = 0.05) -> int:
    """The fewest images by which two methods must differ, all one way, for McNemar's exact p to reach `alpha`: 6."""
    return math.ceil(1 - math.log2(alpha))


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean of independent repeats and its 95 % t interval; none of a single one or of repeats that do not differ.

    It covers other training runs, not other patients.

    Raises:
        ValueError: no value.
    """
    if not len(values):
        raise ValueError("a mean needs at least one value")
    if len(set(values)) == 1:
        return values[0], None, None
    mean, half = fmean(values), float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half
