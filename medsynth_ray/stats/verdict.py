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
spread = sqrt(1 / groups); for sensitivity spread = sqrt(1 / groups of the positive class); macro F1 and macro AUC are
treated as balanced accuracy. Resampling cannot see what no image showed.

Where a sweep confirms m > 1 arms, every arm has m chances less: intervals (and z) are at level 1 - 0.05 / m, an arm
helps only if also its largest p over the controls, adjusted by Holm over the arms, is <= 0.05, and harms only if
m * p <= 0.05. With one arm that is the rule above.

Where real only scores below the floor that the sweep file may set, the answer is cannot_tell (`floored`).

The hardest comparison is the one with the lowest upper limit, among the controls that were not beaten if there are any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from medsynth_ray.stats.paired import ClassDifference, sign_flip_p, smallest_sign_flip_p, two_way_bootstrap
from medsynth_ray.stats.primary import Primary

ALPHA = 0.05
POWER = 0.8
_Z_POWER = NormalDist().inv_cdf(POWER)
Word = Literal["helps", "harms", "no_evidence", "cannot_tell", "no_candidate", "as_published"]
"""The last is not of this rule: a sweep that follows a paper's protocol gets it from `stats.as_published`."""
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

    difference: winner minus control, mean over repeats; low, high: its two-way bootstrap interval at `level`; p:
    two-sided sign-flip over `repeats`, the S differences; se: standard deviation of the bootstrap; spread: the smallest
    standard error by the square root of the difference (see the top of this file). per_class: recall, always 95 %.
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
    level: float = 1.0 - ALPHA

    @property
    def beaten(self) -> bool:
        """The winner lies above this control by both conditions of the rule; p is not adjusted for other arms."""
        return self.p <= ALPHA and self.low > 0.0

    @property
    def worse(self) -> bool:
        """The winner lies below this control by both conditions of the rule; p is not adjusted for other arms."""
        return self.p <= ALPHA and self.high < 0.0

    def se_floor(self, effect: float) -> float:
        """The standard error that a true difference of `effect` would bring at the least."""
        return math.sqrt(effect) * self.spread

    def upper(self, effect: float) -> float:
        """The upper limit that has to lie below `effect` to exclude it."""
        return max(self.high, self.difference + self._z * self.se_floor(effect))

    def detectable(self, effect: float) -> float:
        """The difference found in 80 % of cases with the standard error measured, or that of `effect` if larger."""
        return (self._z + _Z_POWER) * max(self.se, self.se_floor(effect))

    @property
    def _z(self) -> float:
        return NormalDist().inv_cdf((1.0 + self.level) / 2.0)

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
    """The answer of a sweep. hardest: the control that decided; detectable: of that comparison.

    num_arms: arms that the sweep confirms; p_adjusted: this one's largest p over the controls, by Holm over the arms.
    """

    word: Word
    sentence: str
    winner: str | None
    about: About
    primary: Primary
    effect: float
    comparisons: tuple[Comparison, ...]
    caveats: tuple[str, ...]
    hardest: str | None
    detectable: float | None
    num_arms: int = 1
    p_adjusted: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data, the same bytes for the same inputs; no number is rounded. metric: the key of `primary`."""
        comparisons = [c.to_json(self.effect) for c in self.comparisons]
        changed = {"metric": self.primary.key, "comparisons": comparisons, "caveats": list(self.caveats)}
        return {**asdict(self), **changed}


def compare(
    winner_probs: np.ndarray,
    control_probs: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    control: str,
    primary: Primary,
    seed: int,
    num_resamples: int = 2000,
    num_arms: int = 1,
) -> Comparison:
    """Compare class probabilities (S, N, K) of the winner with those of one control, paired by repeat.

    Args:
        winner_probs: of the winner.
        control_probs: of the control; row s shares its train seed with row s of the winner.
        labels: int (N,) of the locked test.
        groups: str (N,) of the locked test.
        control: its name.
        primary: what is compared.
        seed: of the bootstrap.
        num_resamples: of the bootstrap.
        num_arms: how many arms the sweep confirms; the interval is at level 1 - 0.05 / num_arms.

    Raises:
        ValueError: shapes do not fit, a probability is not finite, the metric is not defined on these labels, or
            `num_arms` is below 1.
    """
    if winner_probs.ndim != 3 or winner_probs.shape != control_probs.shape:
        shapes = f"{winner_probs.shape} and {control_probs.shape}"
        raise ValueError(f"need probabilities (S, N, K) of winner and {control}, of one shape; got {shapes}")
    if not (np.isfinite(winner_probs).all() and np.isfinite(control_probs).all()):
        raise ValueError(f"the probabilities of the winner or of {control} hold NaN or infinity")
    alpha = ALPHA / _checked(num_arms)
    found = two_way_bootstrap(
        labels,
        groups,
        winner_probs,
        control_probs,
        primary=primary,
        seed=seed,
        num_resamples=num_resamples,
        alpha=alpha,
    )
    return Comparison(
        control=control,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p=sign_flip_p(np.array(found.repeats), seed=seed),
        se=found.se,
        spread=_spread(np.asarray(labels), np.asarray(groups), primary),
        repeats=found.repeats,
        per_class=found.per_class,
        num_images=len(labels),
        num_groups=len(np.unique(groups)),
        level=1.0 - alpha,
    )


def decide(
    comparisons: Mapping[str, Comparison],
    *,
    effect: float,
    winner: str,
    about: About,
    primary: Primary,
    caveats: Sequence[str] = (),
    p_adjusted: float | None = None,
    num_arms: int = 1,
) -> Verdict:
    """Apply the rule at the top of this file.

    Args:
        comparisons: control -> comparison; `real_only` must be there.
        effect: smallest difference worth having, on the metric's scale.
        winner: how the sentence calls the winner, e.g. "gaussian (add, ratio 0.50)".
        about: pool: these images; method: the generator, fitted anew in every repeat.
        primary: what was compared.
        caveats: what a reader must know beside the answer.
        p_adjusted: `largest_p` of these comparisons, by `paired.holm` over the arms; needed where there are several.
        num_arms: how many arms the sweep confirms; the same as of the comparisons.

    Raises:
        ValueError: `real_only` is missing, the comparisons have different repeats or were made for another `num_arms`,
            or `p_adjusted` is missing.
    """
    if "real_only" not in comparisons:
        raise ValueError(f"a verdict needs the control real_only, got {sorted(comparisons) or 'none'}")
    if len({len(c.repeats) for c in comparisons.values()}) > 1:
        raise ValueError(f"repeats differ: { ({k: len(c.repeats) for k, c in comparisons.items()}) }")
    ordered = tuple(comparisons.values())
    if wrong := [c.level for c in ordered if not math.isclose(c.level, 1.0 - ALPHA / _checked(num_arms))]:
        raise ValueError(f"num_arms is {num_arms}, but comparisons have intervals at level {wrong[0]:g}")
    if p_adjusted is None and num_arms > 1:
        raise ValueError(f"p_adjusted is needed for one of {num_arms} arms")
    p = largest_p(comparisons) if p_adjusted is None else p_adjusted
    hardest = min(ordered, key=lambda c: (c.beaten, c.upper(effect)))
    word = _word(ordered, comparisons["real_only"], hardest, effect, p, num_arms)
    answer = _answer(word, ordered, effect, winner, primary.words(), num_arms)
    return Verdict(
        word=word,
        sentence=f"{answer}{_family(hardest, p, num_arms)}; {_scope(hardest, about)}.",
        winner=winner,
        about=about,
        primary=primary,
        effect=effect,
        comparisons=ordered,
        caveats=tuple(caveats),
        hardest=hardest.control,
        detectable=hardest.detectable(effect),
        num_arms=num_arms,
        p_adjusted=p,
    )


def floored(decided: Verdict, *, real_only: float, floor: float | None) -> Verdict:
    """The verdict, or "cannot_tell" where real only scores below the floor: then nothing was learnt to compare."""
    if floor is None or real_only >= floor:
        return decided
    sentence = (
        f"Cannot tell: real only scores {real_only:.3f} on the locked test, below the floor {floor:g} of the sweep "
        f"file, so the classifier did not learn the task. ({decided.sentence})"
    )
    return replace(decided, word="cannot_tell", sentence=sentence)


def largest_p(comparisons: Mapping[str, Comparison]) -> float:
    """The p of an arm that has to beat every control (intersection-union): what `paired.holm` takes of each arm."""
    return max(c.p for c in comparisons.values())


def no_candidate(reason: str, *, effect: float, about: About, primary: Primary, caveats: Sequence[str] = ()) -> Verdict:
    """The verdict of a sweep in which nothing could be compared; `reason` has no full stop."""
    sentence = f"No candidate: {reason}; the locked test was not opened."
    return Verdict("no_candidate", sentence, None, about, primary, effect, (), tuple(caveats), None, None)


def _checked(num_arms: int) -> int:
    if num_arms < 1:
        raise ValueError(f"num_arms must be at least 1, got {num_arms}")
    return num_arms


def _word(
    comparisons: tuple[Comparison, ...],
    real_only: Comparison,
    hardest: Comparison,
    effect: float,
    p_adjusted: float,
    num_arms: int,
) -> Word:
    if all(c.beaten for c in comparisons) and p_adjusted <= ALPHA:
        return "helps"
    if real_only.worse and num_arms * real_only.p <= ALPHA:
        return "harms"
    return "no_evidence" if hardest.upper(effect) < effect and _reachable(hardest, num_arms) else "cannot_tell"


def _spread(labels: np.ndarray, groups: np.ndarray, primary: Primary) -> float:
    """`Comparison.spread` of a test set."""
    if primary.name == "accuracy":
        return 1.0 / math.sqrt(len(np.unique(groups)))
    classes = np.unique(labels) if primary.positive is None else [primary.positive]
    counts = [len(np.unique(groups[labels == label])) for label in classes]
    return math.sqrt(sum(1.0 / n for n in counts)) / len(counts)


def _reachable(comparison: Comparison, num_arms: int) -> bool:
    return num_arms * smallest_sign_flip_p(len(comparison.repeats)) <= ALPHA


def _answer(
    word: Word, comparisons: tuple[Comparison, ...], effect: float, winner: str, name: str, num_arms: int
) -> str:
    if word == "helps":
        return f"Adding {winner} helps: {name} {_join([_versus(c) for c in comparisons])}"
    if word == "harms":
        return f"Adding {winner} harms: {name} {_join([_versus(c) for c in comparisons if c.control == 'real_only'])}"
    # Where every control is beaten but not by the adjusted p, what is said of open ones is said of all.
    open_ones = [c for c in comparisons if not c.beaten] or list(comparisons)
    if word == "no_evidence":
        lead, why = "No evidence that", _excluded(open_ones, effect)
    else:
        lead, why = "Cannot tell whether", _not_excluded(open_ones, effect, num_arms)
    return f"{lead} adding {winner} helps: {name} {_all_versus(comparisons)}; {why}"


def _all_versus(comparisons: tuple[Comparison, ...]) -> str:
    """Every control: those that are beaten, but those that are not."""
    beaten = [_versus(c) for c in comparisons if c.beaten]
    if not beaten or len(beaten) == len(comparisons):
        return _join([_versus(c) for c in comparisons])
    rest = _join([_versus(c) for c in comparisons if not c.beaten])
    which = {1: "which", 2: "both of which"}.get(len(beaten), "all of which")
    return f"{_join(beaten)}, {which} it beats, but {rest}"


def _excluded(open_ones: list[Comparison], effect: float) -> str:
    found = [c for c in open_ones if c.upper(effect) < effect]
    against = "" if len(found) == len(open_ones) else f" against {_join([_against(c.control) for c in found])}"
    return f"a difference of {effect:.3f} or more{against} is excluded"


def _not_excluded(open_ones: list[Comparison], effect: float, num_arms: int) -> str:
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
    if not _reachable(open_ones[0], num_arms):
        over = f" over {num_arms} arms" if num_arms > 1 else ""
        best = num_arms * smallest_sign_flip_p(num)
        reasons.append(f"{num} paired repeats cannot reach p <= {ALPHA:g}{over} (at best {best:.3g})")
    return " and ".join(reasons)


def _family(comparison: Comparison, p_adjusted: float, num_arms: int) -> str:
    if num_arms == 1:
        return ""
    return f"; Holm over {num_arms} arms: p = {p_adjusted:.3f}, intervals at {comparison.level:.1%}"


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
