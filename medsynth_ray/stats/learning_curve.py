"""How many real images a gain is worth, read off the real-only learning curve.

The curve is taken as score(n) = a - b n^-c with b, c >= 0 (Cortes et al. 1993; Mukherjee et al. 2003, who fitted it to
classifiers of microarrays), and written around the training set of N images so that c = 0 is the logarithm:

    score(n) = score(N) + slope * (1 - (n / N)^-c) / c,    asymptote score(N) + slope / c

For each c of a grid this is a straight line, so the least squares fit to the means of the points has no starting values
and cannot fail. A gain g is what n / N = (1 - g c / slope)^(-1 / c) images bring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

MOST = 4
"""More extra images than this many times the training set are not told as a number."""

_EXPONENTS = np.linspace(0.0, 2.0, 201)
_FINER = np.linspace(-0.01, 0.01, 41)


@dataclass(frozen=True)
class CurvePoint:
    """Scores of the real-only classifier, one for each repeat, trained on `num_images` images."""

    num_images: int
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Equivalent:
    """Extra real images that would bring the gain; negative: images whose loss would cost as much.

    None: more than MOST times the training set, or the curve never gets there, or has fewer than 3 sizes; for `images`
    also that it is flat. low, high: what the ends of the gain's interval are worth, each widened to 95 % of the
    curve's own resamples.
    extrapolated: `images`, or the answer that there is no such number, lies outside the sizes that were measured.
    """

    images: int | None
    low: int | None
    high: int | None
    extrapolated: bool
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class _Fit:
    """The curve around the training set: slope >= 0 at N by log n, exponent c >= 0."""

    slope: float
    exponent: float

    def extra_share(self, gain: float) -> float:
        """Extra images for a gain as a share of N; inf: never, -1: all of them."""
        if self.slope == 0.0:
            return math.inf if gain > 0 else float(np.sign(gain))
        if self.exponent == 0.0:
            return _less_one(gain / self.slope)
        left = 1.0 - gain * self.exponent / self.slope
        return math.inf if left <= 0.0 else _less_one(-math.log(left) / self.exponent)


def equivalent_real_images(
    curve: Sequence[CurvePoint],
    gain: float,
    low: float,
    high: float,
    num_train: int,
    *,
    seed: int = 0,
    num_resamples: int = 400,
) -> Equivalent:
    """Say how many extra real images would bring a gain over the classifier trained on `num_train` images.

    Args:
        curve: scores at several training set sizes; fewer than 3 tell nothing.
        gain: of the metric of the curve.
        low: lower end of its interval.
        high: upper end of its interval.
        num_train: N, the images that the real-only classifier of the comparison learns from.
        seed: of the resamples of repeats; each point's are drawn with replacement.
        num_resamples: how many.

    Raises:
        ValueError: a point without scores or images, a number that is not finite, or an interval with swapped ends.
    """
    _check(curve, gain, low, high, num_train)
    change = f"A {'gain' if gain >= 0 else 'loss'} of {gain:+.3f} [{low:+.3f}, {high:+.3f}]"
    if (num_sizes := len({point.num_images for point in curve})) < 3:
        few = f"{change} cannot be told in real images: the learning curve has {num_sizes} of the 3 sizes it takes."
        return Equivalent(None, None, None, False, few)
    sizes = np.array([point.num_images for point in curve]) / num_train
    fitted = _fit(sizes, np.array([[np.mean(point.scores) for point in curve]]))[0]
    fits = _fit(sizes, _resampled_means(curve, seed, num_resamples))
    ends = [
        float(np.quantile([fit.extra_share(end) for fit in fits], share, method="inverted_cdf"))
        for end, share in ((low, 0.025), (high, 0.975))
    ]
    share = fitted.extra_share(gain)
    outside = not sizes.min() <= 1.0 + share <= sizes.max()
    counts = [None if s > MOST else round(s * num_train) for s in (share, *ends)]
    if fitted.slope == 0.0:
        counts[0], outside = None, False
    said = f"{change} {_told(fitted, counts, gain, num_train)}"
    return Equivalent(counts[0], counts[1], counts[2], outside, f"{said}{_warning(outside, curve)}.")


def _fit(sizes: np.ndarray, means: np.ndarray) -> list[_Fit]:
    """Least squares fits to rows of means (R, P) at sizes (P,), as shares of N."""
    coarse = _best(sizes, means, _EXPONENTS[None])[1]
    slopes, exponents = _best(sizes, means, np.clip(coarse[:, None] + _FINER, 0.0, None))
    return [_Fit(float(slope), float(c)) for slope, c in zip(slopes, exponents, strict=True)]


def _best(sizes: np.ndarray, means: np.ndarray, exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and exponent (R,) of the smallest squared error over (R, C) or (1, C); a falling line counts as flat."""
    log, c = np.log(sizes), exponents[:, :, None]
    x = np.where(c == 0.0, log, -np.expm1(-c * log) / np.where(c == 0.0, 1.0, c))
    x -= x.mean(axis=2, keepdims=True)
    y = (means - means.mean(axis=1, keepdims=True))[:, None]
    slopes = np.maximum((x * y).sum(axis=2) / (x**2).sum(axis=2), 0.0)
    best = ((y - slopes[:, :, None] * x) ** 2).sum(axis=2).argmin(axis=1)
    rows = np.arange(len(means))
    return slopes[rows, best], np.broadcast_to(exponents, slopes.shape)[rows, best]


def _resampled_means(curve: Sequence[CurvePoint], seed: int, num_resamples: int) -> np.ndarray:
    """Means of each point over repeats drawn with replacement, (B, P)."""
    rng = np.random.default_rng(seed)
    drawn = [np.asarray(p.scores)[rng.integers(0, len(p.scores), (num_resamples, len(p.scores)))] for p in curve]
    return np.stack([scores.mean(axis=1) for scores in drawn], axis=1)


def _less_one(log: float) -> float:
    return math.inf if log > 700.0 else math.expm1(log)


def _told(fit: _Fit, counts: list[int | None], gain: float, num_train: int) -> str:
    images, span = counts[0], f"(95 %: {_count(counts[1])} to {_count(counts[2])})"
    if fit.slope == 0.0:
        return "cannot be told in real images: the real-only learning curve is flat"
    if images is None and fit.exponent * gain >= fit.slope:
        most = fit.slope / fit.exponent
        return f"is more than any number of real images would bring: the curve levels off {most:+.3f} higher"
    if images is None:
        return f"is what more than {MOST} times the {num_train:,} real images would bring on top of them {span}"
    if gain < 0:
        return f"is what {-images:,} of the {num_train:,} real images fewer would cost {span}"
    return f"is what {images:,} more real images than the {num_train:,} would bring {span}"


def _count(images: int | None) -> str:
    return f"more than {MOST} times as many" if images is None else f"{images:+,}"


def _warning(outside: bool, curve: Sequence[CurvePoint]) -> str:
    sizes = [point.num_images for point in curve]
    return f"; an extrapolation, measured were {min(sizes):,} to {max(sizes):,} images" if outside else ""


def _check(curve: Sequence[CurvePoint], gain: float, low: float, high: float, num_train: int) -> None:
    sizes = [point.num_images for point in curve]
    if min([*sizes, num_train]) < 1:
        raise ValueError(f"every size must be at least 1 image, got {sizes} and {num_train} of the training set")
    if not all(len(point.scores) and np.isfinite(point.scores).all() for point in curve):
        raise ValueError(f"every point of a learning curve needs finite scores, got {list(curve)}")
    if not (np.isfinite([gain, low, high]).all() and low <= high):
        raise ValueError(f"need a finite gain and its interval, got {gain} and [{low}, {high}]")
