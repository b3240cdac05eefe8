"""The one rule that decides whether synthetic images help. docs/verdict.md explains it.

The winner of val is compared with every control on the locked test, over S paired repeats.

- helps: it beats every control: sign-flip p <= 0.05 over the repeats, and the 95 % two-way bootstrap interval (groups x
  repeats) of the difference lies above 0. This is an intersection-union test: no correction for the number of controls.
- harms: it lies below real-only by the same two conditions.
- cannot_tell: neither, and the design could not have seen the stated effect: (z_0.975 + z_0.8) * se of the hardest
  comparison is above it, or S repeats cannot reach p <= 0.05 at all.
- no_evidence: neither, and the design could have seen it.

The hardest comparison is the one with the smallest difference among the controls that were not beaten.
"""

from __future__ import annotations

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
    sign-flip over `repeats`, the S differences; se: standard deviation of the bootstrap. per_class: recall.
    """

    control: str
    difference: float
    low: float
    high: float
    p: float
    se: float
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

    @property
    def detectable(self) -> float:
        """The difference that a comparison with this standard error finds in 80 % of cases."""
        return (NormalDist().inv_cdf(1.0 - ALPHA / 2.0) + NormalDist().inv_cdf(POWER)) * self.se

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            **asdict(self),
            "repeats": list(self.repeats),
            "per_class": [asdict(c) for c in self.per_class],
            "against": _against(self.control),
            "beaten": self.beaten,
            "detectable": self.detectable,
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
        return {**asdict(self), "comparisons": [c.to_json() for c in self.comparisons], "caveats": list(self.caveats)}


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
    hardest = min(ordered, key=lambda c: (c.beaten, c.difference))
    word = _word(ordered, comparisons["real_only"], hardest, effect)
    return Verdict(
        word=word,
        sentence=_sentence(word, ordered, comparisons["real_only"], hardest, effect, winner, about, metric),
        winner=winner,
        about=about,
        metric=metric,
        effect=effect,
        comparisons=ordered,
        caveats=tuple(caveats),
        hardest=hardest.control,
        detectable=hardest.detectable,
    )


def no_candidate(
    reason: str, *, effect: float, about: About, metric: MetricName, caveats: Sequence[str] = ()
) -> Verdict:
    """The verdict of a sweep of which nothing came as far as the locked test; `reason` has no full stop."""
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
    if hardest.detectable > effect or not _reachable(hardest):
        return "cannot_tell"
    return "no_evidence"


def _reachable(comparison: Comparison) -> bool:
    return smallest_sign_flip_p(len(comparison.repeats)) <= ALPHA


def _sentence(
    word: Word,
    comparisons: tuple[Comparison, ...],
    real_only: Comparison,
    hardest: Comparison,
    effect: float,
    winner: str,
    about: About,
    metric: MetricName,
) -> str:
    name = metric_words(metric)
    if word == "helps":
        what = f"Adding {winner} helps: {name} {_join([_versus(c) for c in comparisons])}"
    elif word == "harms":
        what = f"Adding {winner} harms: {name} {_versus(real_only)}"
    elif word == "no_evidence":
        what = (
            f"No evidence that adding {winner} helps: {name} {_versus(hardest)} (p = {hardest.p:.3f}), although "
            f"a true difference of {effect:.3f} would very likely have been seen (detectable: {hardest.detectable:.3f})"
        )
    else:
        what = f"Cannot tell whether adding {winner} helps: {name} {_versus(hardest)}; {_blind(hardest, effect)}"
    return f"{what}; {_scope(real_only, about)}."


def _blind(hardest: Comparison, effect: float) -> str:
    """Why the design could not have seen the effect."""
    reasons = []
    if hardest.detectable > effect:
        seen = f"{hardest.detectable:.3f}"
        reasons.append(f"this test set shows only differences from about {seen} on, not the stated {effect:.3f}")
    if not _reachable(hardest):
        num = len(hardest.repeats)
        reasons.append(f"{num} paired repeats cannot reach p <= {ALPHA:g} (at best {smallest_sign_flip_p(num):.3g})")
    return " and ".join(reasons)


def _versus(comparison: Comparison) -> str:
    c = comparison
    return f"{c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}] against {_against(c.control)}"


def _against(control: str) -> str:
    return CONTROLS.get(control, control)


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _scope(comparison: Comparison, about: About) -> str:
    what = {"pool": "these images (confirm.about: pool)", "method": "this generator (confirm.about: method)"}[about]
    num = len(comparison.repeats)
    images = f"{comparison.num_images:,} locked test images of {comparison.num_groups:,} groups"
    return f"{what}, {num} paired {'repeat' if num == 1 else 'repeats'}, {images}"
