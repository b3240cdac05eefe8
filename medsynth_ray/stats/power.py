"""What a test set and a number of repeats can show, said before anything is spent.

For balanced accuracy, the mean of K recalls, the variance of the difference between two paired arms is taken as

    var = (1 / K^2) sum_c q / n_c  +  2 s^2 / S

q: discordance, the share of test images on which two arms disagree (each such image moves a recall by 1 / n_c).
n_c: test images of class c, or its groups where these are fewer: images of one patient may all fall together.
s: standard deviation of the metric over repeats; S: repeats. Accuracy has q / n in place of the sum, sensitivity q / n
of the positive class, with q the share of that class; macro F1 and macro AUC are treated as balanced accuracy. The
first term does not shrink with S: disagreement is taken to be the same in every
repeat, which is the cautious reading. Detected with the wished power: (z_{1-alpha/2} + z_{power}) sqrt(var).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.special import chdtri

from medsynth_ray.stats._ranks import calls_at
from medsynth_ray.stats.paired import repeat_scores, smallest_sign_flip_p
from medsynth_ray.stats.primary import Primary

_MAX_REPEATS = 1000
_BALANCED_ACCURACY = Primary("balanced_accuracy")


@dataclass(frozen=True)
class Pilot:
    """What repeats of one arm, real only, showed of the noise of training.

    discordance: share of images that two repeats judge differently, mean over pairs of repeats. repeat_sd: standard
    deviation of the metric over repeats (ddof 1); repeat_sd_upper: its upper one-sided 80 % bound if scores are normal.
    num_repeats: R. mean: of the metric.
    """

    discordance: float
    repeat_sd: float
    repeat_sd_upper: float
    num_repeats: int
    mean: float


@dataclass(frozen=True)
class Power:
    """What a design can show.

    detectable: smallest difference seen with the wished power. smallest_p: what the repeats can reach by sign flip.
    images_needed: test images in all (classes as now) for `effect`, with at least the repeats that can reach alpha;
    None: no number of images, more repeats first.
    repeats_needed: repeats for `effect`; None: no number of repeats, more images first.
    discordance, repeat_sd: what was assumed, or taken from `pilot`. sufficient: `detectable` is at most `effect`, and p
    can reach alpha.
    """

    primary: Primary
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
    pilot: Pilot | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, the key of `primary` as metric, and the line of `power_line`."""
        return {**asdict(self), "metric": self.primary.key, "line": power_line(self)}


def pilot(probs: np.ndarray, labels: np.ndarray, primary: Primary) -> Pilot:
    """Measure the noise of training on class probabilities (R, N, K) of real-only repeats: same images, other seeds.

    Two repeats judge an image differently if their most probable classes differ. For sensitivity, only images of the
    positive class count, and what is compared is on which side of its own repeat's threshold an image lies: these are
    the images that enter the variance of `detectable_difference`.

    What it says of two arms: the deviation over repeats is that of any arm, and known only roughly from few repeats
    (its upper bound is 2.1 times the measured one for three, 1.4 times for eight). The images that flip from repeat to
    repeat are in that deviation already and average out over repeats; what two arms disagree on in every repeat, the
    discordance of `detectable_difference`, a pilot of one arm cannot show. Theirs is told beside it, for comparison.

    Raises:
        ValueError: fewer than 2 repeats, shapes do not fit, a probability is not finite, or the metric is not defined
            on these labels.
    """
    if probs.ndim != 3 or len(probs) < 2:
        raise ValueError(f"a pilot needs probabilities (R, N, K) of at least 2 repeats, got shape {probs.shape}")
    values = repeat_scores(labels, probs, primary)
    judged = _judged(probs, np.asarray(labels), primary)
    pairs = [(judged[i] != judged[j]).mean() for i in range(len(judged)) for j in range(i)]
    spread = float(values.std(ddof=1))
    degrees = len(probs) - 1
    return Pilot(
        discordance=float(np.mean(pairs)),
        repeat_sd=spread,
        repeat_sd_upper=spread * math.sqrt(degrees / float(chdtri(degrees, 0.8))),
        num_repeats=len(probs),
        mean=float(values.mean()),
    )


def detectable_difference(
    test_counts: Sequence[int] | np.ndarray,
    *,
    group_counts: Sequence[int] | np.ndarray | None = None,
    repeats: int,
    discordance: float,
    repeat_sd: float,
    primary: Primary = _BALANCED_ACCURACY,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """Smallest true difference that is found with probability `power`; the formula stands at the top of this file.

    Args:
        test_counts: test images of each class (K,); classes without one are left out.
        group_counts: groups of each class (K,) among the test images; None: every image is its own group.
        repeats: paired repeats S.
        discordance: share of test images (sensitivity: of the positive class) on which two arms disagree, in (0, 1).
        repeat_sd: standard deviation of the metric over repeats.
        primary: what is compared.
        alpha: two-sided level.
        power: wished probability.

    Raises:
        ValueError: no test image (sensitivity: of the positive class), or the shapes differ.
    """
    images = _image_variance(test_counts, group_counts, discordance, primary)
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
    primary: Primary = _BALANCED_ACCURACY,
    alpha: float = 0.05,
    power: float = 0.8,
    pilot: Pilot | None = None,
) -> Power:
    """Say whether a design can see `effect`, and what it would take. Arguments as in `detectable_difference`.

    A pilot takes the place of the `repeat_sd` that was assumed.

    Raises:
        ValueError: no test image (sensitivity: of the positive class), or the shapes differ.
    """
    if pilot is not None:
        repeat_sd = pilot.repeat_sd
    images = _image_variance(test_counts, group_counts, discordance, primary)
    num_images = int(np.sum(test_counts))
    noise, allowed = 2.0 * repeat_sd**2, (effect / _z(alpha, power)) ** 2
    detectable = _z(alpha, power) * math.sqrt(images + noise / repeats)
    left = allowed - noise / max(repeats, min_repeats(alpha))
    smallest_p = smallest_sign_flip_p(repeats)
    return Power(
        primary=primary,
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
        pilot=pilot,
    )


def power_line(design: Power) -> str:
    """Say in one line what the design can show, and what it would take if that is not enough."""
    can = (
        f"With {design.num_images:,} test images and {design.repeats} paired repeats, a difference in "
        f"{design.primary.words()} of {design.detectable:.3f} or more is found {design.power:.0%} of the "
        f"time ({_noise(design)}; for one control)"
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


def _noise(design: Power) -> str:
    """Where the two numbers come from."""
    of = "the images" if design.primary.positive is None else "the images of that class"
    arms = f"assuming that two arms disagree on {100 * design.discordance:.3g} % of {of}"
    if design.pilot is None:
        return f"{arms} and repeats vary by {design.repeat_sd:.3f}"
    return (
        f"{arms}; repeats vary by {design.repeat_sd:.3f}, at most {design.pilot.repeat_sd_upper:.3f} with 80 % "
        f"confidence, in a pilot of {design.pilot.num_repeats}, any two of which disagree on "
        f"{100 * design.pilot.discordance:.3g} %"
    )


def _judged(probs: np.ndarray, labels: np.ndarray, primary: Primary) -> np.ndarray:
    """How each repeat calls the images that count, (R, M)."""
    if primary.positive is None:
        classes: np.ndarray = probs.argmax(axis=2)
        return classes
    positive = labels == primary.positive
    return np.stack([calls_at(p[:, primary.positive], positive, primary.specificity)[positive] for p in probs])


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
    primary: Primary,
) -> float:
    counts = np.asarray(test_counts, dtype=np.float64)
    groups = counts if group_counts is None else np.asarray(group_counts, dtype=np.float64)
    if counts.ndim != 1 or counts.shape != groups.shape or counts.sum() <= 0:
        raise ValueError(f"need counts of each class (K,), not all 0, and as many of groups; got {counts}, {groups}")
    if primary.positive is not None:
        if primary.positive >= len(counts) or not counts[primary.positive]:
            raise ValueError(f"{primary.key} needs test images of class {primary.positive}, got counts {counts}")
        return float(discordance / np.minimum(counts, groups)[primary.positive])
    present = np.minimum(counts, groups)[counts > 0]
    if primary.name == "accuracy":
        return float(discordance / present.sum())
    return float((discordance / present).sum() / len(present) ** 2)


def _repeats_needed(noise: float, left: float, alpha: float) -> int | None:
    if left <= 0:
        return None
    needed = max(min_repeats(alpha), math.ceil(noise / left))
    return needed if needed <= _MAX_REPEATS else None
