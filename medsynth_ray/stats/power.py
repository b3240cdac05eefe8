"""What a test set and a number of repeats can show, said before anything is spent.

For balanced accuracy, the mean of K recalls, the variance of the difference between two paired arms is taken as

    var = (1 / K^2) sum_c q / n_c  +  2 s^2 / S

q: discordance, the share of test images on which two arms disagree (each such image moves a recall by 1 / n_c).
n_c: test images of class c, or its groups where these are fewer: images of one patient may all fall together.
s: standard deviation of the metric over repeats; S: repeats. Accuracy has q / n in place of the sum; macro F1 is
treated as balanced accuracy. The first term does not shrink with S: disagreement is taken to be the same in every
repeat, which is the cautious reading. Detected with the wished power: (z_{1-alpha/2} + z_{power}) sqrt(var).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from medsynth_ray.stats.paired import MetricName, smallest_sign_flip_p

_MAX_REPEATS = 1000


@dataclass(frozen=True)
class Power:
    """What a design can show.

    detectable: smallest difference seen with the wished power. smallest_p: what the repeats can reach by sign flip.
    images_needed: test images in all (classes as now) for `effect`, with at least the repeats that can reach alpha;
    None: no number of images, more repeats first.
    repeats_needed: repeats for `effect`; None: no number of repeats, more images first.
    discordance, repeat_sd: what was assumed. sufficient: `detectable` is at most `effect`, and p can reach alpha.
    """

    metric: MetricName
    effect: float
    detectable: float
    repeats: int
    alpha: float
    power: float
    discordance: float
    repeat_sd: float
    smallest_p: float
    num_images: int
    images_needed: int | None
    repeats_needed: int | None
    sufficient: bool

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, and the line of `power_line`."""
        return {**asdict(self), "line": power_line(self)}


def detectable_difference(
    test_counts: Sequence[int] | np.ndarray,
    *,
    group_counts: Sequence[int] | np.ndarray | None = None,
    repeats: int,
    discordance: float,
    repeat_sd: float,
    metric: MetricName = "balanced_accuracy",
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Smallest true difference that is found with probability `power`; the formula stands at the top of this file.

    Args:
        test_counts: test images of each class (K,); classes without one are left out.
        group_counts: groups of each class (K,) among the test images; None: every image is its own group.
        repeats: paired repeats S.
        discordance: share of test images on which two arms disagree, in (0, 1).
        repeat_sd: standard deviation of the metric over repeats.
        metric: what is compared.
        alpha: two-sided level.
        power: wished probability.

    Raises:
        ValueError: no test image, or the shapes differ.
    """
    images = _image_variance(test_counts, group_counts, discordance, metric)
    return _z(alpha, power) * math.sqrt(images + 2.0 * repeat_sd**2 / repeats)


def min_repeats(alpha: float = 0.05) -> int:
    """Fewest paired repeats whose sign-flip p can reach `alpha`: 6 for 0.05."""
    return 1 + math.ceil(-math.log2(alpha))


def plan_power(
    test_counts: Sequence[int] | np.ndarray,
    *,
    group_counts: Sequence[int] | np.ndarray | None = None,
    repeats: int,
    effect: float,
    discordance: float,
    repeat_sd: float,
    metric: MetricName = "balanced_accuracy",
    alpha: float = 0.05,
    power: float = 0.8,
) -> Power:
    """Say whether a design can see `effect`, and what it would take. Arguments as in `detectable_difference`.

    Raises:
        ValueError: no test image, or the shapes differ.
    """
    images = _image_variance(test_counts, group_counts, discordance, metric)
    num_images = int(np.sum(test_counts))
    noise, allowed = 2.0 * repeat_sd**2, (effect / _z(alpha, power)) ** 2
    detectable = _z(alpha, power) * math.sqrt(images + noise / repeats)
    left = allowed - noise / max(repeats, min_repeats(alpha))
    smallest_p = smallest_sign_flip_p(repeats)
    return Power(
        metric=metric,
        effect=effect,
        detectable=detectable,
        repeats=repeats,
        alpha=alpha,
        power=power,
        discordance=discordance,
        repeat_sd=repeat_sd,
        smallest_p=smallest_p,
        num_images=num_images,
        images_needed=max(1, math.ceil(num_images * images / left)) if left > 0 else None,
        repeats_needed=_repeats_needed(noise, allowed - images, alpha),
        sufficient=detectable <= effect and smallest_p <= alpha,
    )


def power_line(design: Power) -> str:
    """Say in one line what the design can show, and what it would take if that is not enough."""
    metric = design.metric.replace("_", " ").replace(" f1", " F1")
    can = (
        f"With {design.num_images:,} test images and {design.repeats} paired repeats, a difference in {metric} of "
        f"{design.detectable:.3f} or more is found {design.power:.0%} of the time (assuming that two arms disagree on "
        f"{100 * design.discordance:.3g} % of the images and repeats vary by {design.repeat_sd:.3f}; for one control)"
    )
    if design.sufficient:
        return f"{can}: enough for the stated effect of {design.effect:.3f}."
    why = []
    if design.detectable > design.effect:
        why.append(f"{can}: too coarse for the stated effect of {design.effect:.3f}")
    if design.smallest_p > design.alpha:
        why.append(
            f"{design.repeats} repeats cannot reach p <= {design.alpha:g} by sign flip "
            f"(at best {design.smallest_p:.3g}); {min_repeats(design.alpha)} can"
        )
    return f"{'; '.join(why)}. {_remedy(design)}"


def _remedy(design: Power) -> str:
    ways = []
    if design.images_needed is not None and design.images_needed > design.num_images:
        floor = min_repeats(design.alpha)
        also = f" with {floor} repeats" if design.repeats < floor else ""
        ways.append(f"about {design.images_needed:,} test images (and groups in proportion){also}")
    if design.repeats_needed is not None and design.repeats_needed > design.repeats:
        ways.append(f"{design.repeats_needed:,} repeats")
    if not ways:
        return "It needs more test images and more repeats together."
    return f"It needs {' or '.join(ways)}."


def _z(alpha: float, power: float) -> float:
    return NormalDist().inv_cdf(1.0 - alpha / 2.0) + NormalDist().inv_cdf(power)


def _image_variance(
    test_counts: Sequence[int] | np.ndarray,
    group_counts: Sequence[int] | np.ndarray | None,
    discordance: float,
    metric: MetricName,
) -> float:
    counts = np.asarray(test_counts, dtype=np.float64)
    groups = counts if group_counts is None else np.asarray(group_counts, dtype=np.float64)
    if counts.ndim != 1 or counts.shape != groups.shape or counts.sum() <= 0:
        raise ValueError(f"need counts of each class (K,), not all 0, and as many of groups; got {counts}, {groups}")
    present = np.minimum(counts, groups)[counts > 0]
    if metric == "accuracy":
        return float(discordance / present.sum())
    return float((discordance / present).sum() / len(present) ** 2)


def _repeats_needed(noise: float, left: float, alpha: float) -> int | None:
    if left <= 0:
        return None
    needed = max(min_repeats(alpha), math.ceil(noise / left))
    return needed if needed <= _MAX_REPEATS else None
