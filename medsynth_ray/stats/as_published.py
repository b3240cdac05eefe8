"""What a study as most are published would report, and what chance alone would have let it report.

Every arm is trained once, all are scored on the same test images, and the best is named. Its gain over real only is set
against a permutation null (max-T, Westfall and Young 1993): if adding synthetic images changes nothing, the predictions
of an arm and of real only for the images of a group may be swapped. One coin for each group serves all arms, so what
they share is kept; the best gain over all arms is noted for every permutation. What training runs differ by as a whole
is not in it, since each arm ran once: chance does better than this null, and p is too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medsynth_ray.stats.paired import repeat_scores
from medsynth_ray.stats.primary import Primary


@dataclass(frozen=True)
class AsPublished:
    """The best arm on the test images. p: share of permutations in which the best of all arms gains as much.

    by_chance: the gain of the best arm that half of the permutations reach.
    """

    best: str
    score: float
    real_only: float
    gain: float
    num_arms: int
    num_images: int
    p: float
    by_chance: float

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)

    def sentence(self, metric: str) -> str:
        """What would be reported, and why it is no evidence. metric: how a sentence calls the primary metric."""
        return (
            f"As published: {self.best} reaches {metric} {self.score:.3f} against {self.real_only:.3f} of real "
            f"only ({self.gain:+.3f}). Not evidence: the best of {self.num_arms} arms was picked on the "
            f"{self.num_images:,} test images that score it, after one training run of each. If none of them changed "
            f"anything, the best would still gain {self.by_chance:+.3f} or more in half of such studies, and "
            f"{self.gain:+.3f} or more in {self.p:.0%} of them; the noise of training, which one run of each cannot "
            "show, comes on top."
        )


def as_published(
    arms: Mapping[str, np.ndarray], real_only: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, primary: Primary,
    seed: int, num_permutations: int = 199,
) -> AsPublished:  # fmt: skip
    """Pick the best arm by class probabilities (N, K) of each on the test images, and say what chance would do.

    Raises:
        ValueError: there is no arm, or shapes do not fit.
    """
    if not arms:
        raise ValueError("no arm was scored on the test images")
    base = _score(real_only, labels, primary)
    found = {name: _score(probs, labels, primary) for name, probs in arms.items()}
    best = max(sorted(found), key=lambda name: found[name])
    rng, member = np.random.default_rng(seed), np.unique(groups, return_inverse=True)[1]
    num_groups, chance = int(member.max()) + 1, []
    for _ in range(num_permutations):
        swapped = rng.integers(0, 2, num_groups).astype(bool)[member][:, None]
        chance.append(max(_gain(probs, real_only, swapped, labels, primary) for probs in arms.values()))
    gain = found[best] - base
    hits = sum(value >= gain - 1e-12 for value in chance)
    return AsPublished(
        best=best, score=found[best], real_only=base, gain=gain, num_arms=len(arms), num_images=len(labels),
        p=(1 + hits) / (1 + num_permutations), by_chance=float(np.median(chance)),
    )  # fmt: skip


def _gain(arm: np.ndarray, real_only: np.ndarray, swapped: np.ndarray, labels: np.ndarray, primary: Primary) -> float:
    first, second = np.where(swapped, real_only, arm), np.where(swapped, arm, real_only)
    return _score(first, labels, primary) - _score(second, labels, primary)


def _score(probs: np.ndarray, labels: np.ndarray, primary: Primary) -> float:
    return float(repeat_scores(labels, probs[None], primary)[0])
