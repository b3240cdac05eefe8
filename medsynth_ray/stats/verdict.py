"""The one rule that decides whether synthetic images help. docs/verdict.md explains it.

The winner of val is compared with every control on the locked test, over S paired repeats.

- helps: it beats every control: sign-flip p <= 0.05 over the repeats, and the 95 % two-way bootstrap interval (groups x
  repeats) of the difference lies above 0. This is an intersection-union test: no correction for the number of controls.
- harms: it lies below real-only by the same two conditions.
- no_evidence: neither, S repeats can reach p <= 0.05, and against some control that was not beaten the upper limit lies
  below the stated effect: max(high, difference + z_0.975 * se_floor) < effect.
- cannot_tell: neither, and no such control, or too few repeats.

se_floor is the standard error that a true difference of the effect would bring at the least, so that arms which hardly
ever disagree exclude nothing on a small test set. An effect e needs a share e of discordant images: for balanced
accuracy se_floor = sqrt(e) * spread with spread = sqrt(sum_c 1 / n_c) / K, n_c the groups of class c; for accuracy
spread = sqrt(1 / groups); macro F1 is treated as balanced accuracy. Resampling cannot see what no image showed.

The hardest comparison is the one with the lowest upper limit, among the controls that were not beaten if there are any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from medsynth_ray.stats.paired import (
    ClassDifference,
    MetricName,
    sign_flip_p,
    smallest_sign_flip_p,
    two_way_bootstrap,
)

ALPHA = 0.05
POWER = 0.8
_Z_ALPHA = NormalDist().inv_cdf(1.0 - ALPHA / 2.0)
_Z_POWER = NormalDist().inv_cdf(POWER)
Word = Literal["helps", "harms", "no_evidence", "cannot_tell", "no_candidate"]
About = Literal["pool", "method"]

CONTROLS = {
    "real_only": "real only",
    "real_classic": "real with classic augmentation",
    "real_oversampled": "real oversampled to the same number of steps",
}
"""Control -> how a sentence calls it."""


@dataclass(frozen=True)
class Comparison:
    """The winner against one control on the locked test, over paired repeats.

    difference: winner minus control, mean over repeats; low, high: its 95 % two-way bootstrap interval; p: two-sided
    sign-flip over `repeats`, the S differences; se: standard deviation of the bootstrap; spread: the smallest standard
    error by the square root of the difference (see the top of this file). per_class: recall.
    """

    control: str
    difference: float
    low: float
    high: float
    p: float
    se: float
    spread: float
    repeats: tuple[float, ...]
    per_class: tuple[ClassDifference, ...]
    num_images: int
    num_groups: int

    @property
    def beaten(self) -> bool:
        """The winner lies above this control by both conditions of the rule."""
        return self.p <= ALPHA and self.low > 0.0

    @property
    def worse(self) -> bool:
        """The winner lies below this control by both conditions of the rule."""
        return self.p <= ALPHA and self.high < 0.0

    def se_floor(self, effect: float) -> float:
        """The standard error that a true difference of `effect` would bring at the least."""
        return math.sqrt(effect) * self.spread

    def upper(self, effect: float) -> float:
        """The upper limit that has to lie below `effect` to exclude it."""
        return max(self.high, self.difference + _Z_ALPHA * self.se_floor(effect))

    def detectable(self, effect: float) -> float:
        """The difference found in 80 % of cases with the standard error measured, or that of `effect` if larger."""
        return (_Z_ALPHA + _Z_POWER) * max(self.se, self.se_floor(effect))

    def to_json(self, effect: float) -> dict[str, Any]:
        """Plain numbers."""
        return {
            **asdict(self),
            "repeats": list(self.repeats),
            "per_class": [asdict(c) for c in self.per_class],
            "against": _against(self.control),
            "beaten": self.beaten,
            "detectable": self.detectable(effect),
        }


@dataclass(frozen=True)
class Verdict:
    """The answer of a sweep. hardest: the control that decided; detectable: of that comparison."""

    word: Word
    sentence: str
    winner: str | None
    about: About
    metric: MetricName
    effect: float
    comparisons: tuple[Comparison, ...]
    caveats: tuple[str, ...]
    hardest: str | None
    detectable: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data, the same bytes for the same inputs; no number is rounded."""
        comparisons = [c.to_json(self.effect) for c in self.comparisons]
        return {**asdict(self), "comparisons": comparisons, "caveats": list(self.caveats)}


def compare(
    winner_probs: np.ndarray,
    control_probs: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    control: str,
    metric: MetricName,
    seed: int,
    num_resamples: int = 2000,
) -> Comparison:
    """Compare class probabilities (S, N, K) of the winner with those of one control, paired by repeat.

    Args:
        winner_probs: of the winner.
        control_probs: of the control; row s shares its train seed with row s of the winner.
        labels: int (N,) of the locked test.
        groups: str (N,) of the locked test.
        control: its name.
        metric: what is compared, of the most probable class.
        seed: of the bootstrap.
        num_resamples: of the bootstrap.

    Raises:
        ValueError: shapes do not fit, or a probability is not finite.
    """
    if winner_probs.ndim != 3 or winner_probs.shape != control_probs.shape:
        shapes = f"{winner_probs.shape} and {control_probs.shape}"
        raise ValueError(f"need probabilities (S, N, K) of winner and {control}, of one shape; got {shapes}")
    if not (np.isfinite(winner_probs).all() and np.isfinite(control_probs).all()):
        raise ValueError(f"the probabilities of the winner or of {control} hold NaN or infinity")
    found = two_way_bootstrap(
        labels,
        groups,
        winner_probs.argmax(axis=2),
        control_probs.argmax(axis=2),
        num_classes=winner_probs.shape[2],
        metric=metric,
        seed=seed,
        num_resamples=num_resamples,
    )
    return Comparison(
        control=control,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=sign_flip_p(np.array(found.repeats), seed=seed),
        se=found.se,
        spread=_spread(np.asarray(labels), np.asarray(groups), metric),
        repeats=found.repeats,
        per_class=found.per_class,
        num_images=len(labels),
        num_groups=len(np.unique(groups)),
    )


def decide(
    comparisons: Mapping[str, Comparison],
    *,
    effect: float,
    winner: str,
    about: About,
    metric: MetricName,
    caveats: Sequence[str] = (),
) -> Verdict:
    """Apply the rule at the top of this file.

    Args:
        comparisons: control -> comparison; `real_only` must be there.
        effect: smallest difference worth having, on the metric's scale.
        winner: how the sentence calls the winner, e.g. "gaussian (add, ratio 0.50)".
        about: pool: these images; method: the generator, fitted anew in every repeat.
        metric: what was compared.
        caveats: what a reader must know beside the answer.

    Raises:
        ValueError: `real_only` is missing, or the comparisons have different repeats.
    """
    if "real_only" not in comparisons:
        raise ValueError(f"a verdict needs the control real_only, got {sorted(comparisons) or 'none'}")
    if len({len(c.repeats) for c in comparisons.values()}) > 1:
        raise ValueError(f"repeats differ: { ({k: len(c.repeats) for k, c in comparisons.items()}) }")
    ordered = tuple(comparisons.values())
    hardest = min(ordered, key=lambda c: (c.beaten, c.upper(effect)))
    word = _word(ordered, comparisons["real_only"], hardest, effect)
    return Verdict(
        word=word,
        sentence=f"{_answer(word, ordered, effect, winner, metric)}; {_scope(hardest, about)}.",
        winner=winner,
        about=about,
        metric=metric,
        effect=effect,
        comparisons=ordered,
        caveats=tuple(caveats),
        hardest=hardest.control,
        detectable=hardest.detectable(effect),
    )


def no_candidate(
    reason: str, *, effect: float, about: About, metric: MetricName, caveats: Sequence[str] = ()
) -> Verdict:
    """The verdict of a sweep in which nothing could be compared; `reason` has no full stop."""
    sentence = f"No candidate: {reason}; the locked test was not opened."
    return Verdict("no_candidate", sentence, None, about, metric, effect, (), tuple(caveats), None, None)


def metric_words(metric: str) -> str:
    """`macro_f1` -> "macro F1"."""
    return metric.replace("_", " ").replace(" f1", " F1")


def _word(comparisons: tuple[Comparison, ...], real_only: Comparison, hardest: Comparison, effect: float) -> Word:
    if all(c.beaten for c in comparisons):
        return "helps"
    if real_only.worse:
        return "harms"
    return "no_evidence" if hardest.upper(effect) < effect and _reachable(hardest) else "cannot_tell"


def _spread(labels: np.ndarray, groups: np.ndarray, metric: MetricName) -> float:
    """`Comparison.spread` of a test set."""
    if metric == "accuracy":
        return 1.0 / math.sqrt(len(np.unique(groups)))
    counts = [len(np.unique(groups[labels == label])) for label in np.unique(labels)]
    return math.sqrt(sum(1.0 / n for n in counts)) / len(counts)


def _reachable(comparison: Comparison) -> bool:
    return smallest_sign_flip_p(len(comparison.repeats)) <= ALPHA


def _answer(word: Word, comparisons: tuple[Comparison, ...], effect: float, winner: str, metric: MetricName) -> str:
    name = metric_words(metric)
    if word == "helps":
        return f"Adding {winner} helps: {name} {_join([_versus(c) for c in comparisons])}"
    if word == "harms":
        return f"Adding {winner} harms: {name} {_join([_versus(c) for c in comparisons if c.control == 'real_only'])}"
    open_ones = [c for c in comparisons if not c.beaten]
    if word == "no_evidence":
        lead, why = "No evidence that", _excluded(open_ones, effect)
    else:
        lead, why = "Cannot tell whether", _not_excluded(open_ones, effect)
    return f"{lead} adding {winner} helps: {name} {_all_versus(comparisons)}; {why}"


def _all_versus(comparisons: tuple[Comparison, ...]) -> str:
    """Every control: those that are beaten, but those that are not."""
    beaten = [_versus(c) for c in comparisons if c.beaten]
    rest = _join([_versus(c) for c in comparisons if not c.beaten])
    if not beaten:
        return rest
    which = {1: "which", 2: "both of which"}.get(len(beaten), "all of which")
    return f"{_join(beaten)}, {which} it beats, but {rest}"


def _excluded(open_ones: list[Comparison], effect: float) -> str:
    found = [c for c in open_ones if c.upper(effect) < effect]
    against = "" if len(found) == len(open_ones) else f" against {_join([_against(c.control) for c in found])}"
    return f"a difference of {effect:.3f} or more{against} is excluded"


def _not_excluded(open_ones: list[Comparison], effect: float) -> str:
    """What keeps the effect possible: the interval, the size of the test set, or the number of repeats."""
    reasons, num = [], len(open_ones[0].repeats)
    if all(c.high >= effect for c in open_ones):
        reasons.append(f"a difference of {effect:.3f} or more is not excluded")
    elif all(c.upper(effect) >= effect for c in open_ones):
        floor = min(c.se_floor(effect) for c in open_ones)
        reasons.append(
            f"on so few images a difference of {effect:.3f} is not excluded "
            f"(it would bring a standard error of at least {floor:.3f})"
        )
    if not _reachable(open_ones[0]):
        reasons.append(f"{num} paired repeats cannot reach p <= {ALPHA:g} (at best {smallest_sign_flip_p(num):.3g})")
    return " and ".join(reasons)


def _versus(comparison: Comparison) -> str:
    c = comparison
    # An interval on one side of 0 looks decided; where p is what decides, it is told.
    p = f" (p = {c.p:.3f})" if c.p > ALPHA and (c.low > 0.0 or c.high < 0.0) else ""
    return f"{c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}] against {_against(c.control)}{p}"


def _against(control: str) -> str:
    return CONTROLS.get(control, control)


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _scope(comparison: Comparison, about: About) -> str:
    what = {"pool": "these images (confirm.about: pool)", "method": "this generator (confirm.about: method)"}[about]
    num = len(comparison.repeats)
    images = f"{comparison.num_images:,} locked test images of {comparison.num_groups:,} groups"
    return f"{what}, {num} paired {'repeat' if num == 1 else 'repeats'}, {images}"
