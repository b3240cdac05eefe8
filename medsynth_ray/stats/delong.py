"""Area under the ROC curve with its sampling variance, and the paired difference of two areas.

DeLong, DeLong & Clarke-Pearson 1988 (doi 10.2307/2531595), computed from midranks as Sun & Xu 2014 do
(doi 10.1109/LSP.2014.2337313). Images of one group are added up first (Obuchowski 1997, doi 10.2307/2533958), which is
DeLong's own variance where each image stands alone. What is covered: other patients, not other training runs.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from scipy.stats import rankdata

_Z = NormalDist().inv_cdf(0.975)

Interval = tuple[float, float] | tuple[None, None]


def delong(scores: np.ndarray, positive: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Areas of several scores of the same images, and their covariance.

    Args:
        scores: (A, N), larger for positive images; ties count half.
        positive: bool (N,).
        groups: str (N,).

    Returns:
        Areas float64 (A,) and covariance (A, A), None where positive or negative images are of fewer than two groups.

    Raises:
        ValueError: shapes do not fit, or all images are positive or none is.
    """
    codes = _checked_codes(scores, positive, groups)
    first, second = scores[:, positive], scores[:, ~positive]
    num_first, num_second = first.shape[1], second.shape[1]
    ranks = rankdata(scores, axis=1)
    # Structural components: how many of the other kind an image stands above (positive) or below (negative).
    above = (ranks[:, positive] - rankdata(first, axis=1)) / num_second
    below = 1.0 - (ranks[:, ~positive] - rankdata(second, axis=1)) / num_first
    areas = above.mean(axis=1)
    several = [len(np.unique(codes[chosen])) for chosen in (positive, ~positive)]
    if min(several) < 2:
        return areas, None
    num_groups = int(codes.max()) + 1
    of_first = _by_group(above - areas[:, None], codes[positive], num_groups) / num_first
    of_second = _by_group(below - areas[:, None], codes[~positive], num_groups) / num_second
    cross = _products(of_first, of_second)
    covariance = (
        _unbias(several[0]) * _products(of_first, of_first)
        + _unbias(several[1]) * _products(of_second, of_second)
        + _unbias(num_groups) * (cross + cross.T)
    )
    return areas, covariance


def auc(scores: np.ndarray, positive: np.ndarray, groups: np.ndarray) -> dict[str, float | None]:
    """Mean area over repeats (S, N) with a 95 % interval on the logit scale: value, low, high.

    The variance is the mean over repeats, that of a single run: the mean of several runs varies less with the images.
    low and high are None for an area of 0 or 1, of which DeLong's variance is 0, and where groups are too few.

    Raises:
        ValueError: as `delong`.
    """
    areas, covariance = delong(scores, positive, groups)
    value = float(areas.mean())
    variance = None if covariance is None else float(np.diag(covariance).mean())
    low, high = logit_interval(value, variance)
    return {"value": value, "low": low, "high": high}


def logit_interval(area: float, variance: float | None) -> Interval:
    """95 % interval of an area that stays within (0, 1); nothing where the variance is 0 or not known."""
    if variance is None or variance <= 0.0 or not 0.0 < area < 1.0:
        return None, None
    centre, half = math.log(area / (1.0 - area)), _Z * math.sqrt(variance) / (area * (1.0 - area))
    return _logistic(centre - half), _logistic(centre + half)


def auc_difference(
    first: np.ndarray, second: np.ndarray, positive: np.ndarray, groups: np.ndarray
) -> dict[str, float | None]:
    """DeLong's test of two arms, `first` minus `second`, both (S, N): difference, low, high, p.

    Row s of `first` is paired with row s of `second`; difference and variance are means over repeats. The two-sided p
    and the 95 % interval are of the images alone and None where the variance is 0 and the difference is not.

    Raises:
        ValueError: as `delong`.
    """
    num = len(first)
    areas, covariance = delong(np.concatenate([first, second]), positive, groups)
    difference = float((areas[:num] - areas[num:]).mean())
    nothing: dict[str, float | None] = {"difference": difference, "low": None, "high": None, "p": None}
    if covariance is None:
        return nothing
    own = np.diag(covariance)
    variance = float((own[:num] + own[num:] - 2.0 * np.diag(covariance[:num, num:])).mean())
    if variance <= 1e-15:
        return nothing if difference else {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    error = math.sqrt(variance)
    p = math.erfc(abs(difference) / error / math.sqrt(2.0))
    return {"difference": difference, "low": difference - _Z * error, "high": difference + _Z * error, "p": p}


def _checked_codes(scores: np.ndarray, positive: np.ndarray, groups: np.ndarray) -> np.ndarray:
    if scores.ndim != 2 or positive.shape != scores.shape[1:] or groups.shape != positive.shape:
        raise ValueError(
            f"need scores (A, N), positive (N,) and groups (N,), got {scores.shape}, {positive.shape}, {groups.shape}"
        )
    if positive.all() or not positive.any():
        raise ValueError(f"an area needs positive and negative images, got {int(positive.sum())} of {len(positive)}")
    return np.unique(groups, return_inverse=True)[1]


def _by_group(values: np.ndarray, codes: np.ndarray, num_groups: int) -> np.ndarray:
    return np.stack([np.bincount(codes, weights=row, minlength=num_groups) for row in values])


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Sums over groups without BLAS, whose order of adding depends on the number of threads."""
    products: np.ndarray = np.einsum("ag,bg->ab", first, second, optimize=False)
    return products


def _unbias(num: int) -> float:
    return num / (num - 1)


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))
