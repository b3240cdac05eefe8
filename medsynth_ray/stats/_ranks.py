"""Scores of one class against the rest that depend on ranks, for images that count several times or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medsynth_ray.stats.primary import Primary


def sensitivity_at(score: np.ndarray, positive: np.ndarray, specificity: float) -> float:
    """Largest share of positives that is called positive at `specificity`; arguments as in `calls_at`."""
    return float(calls_at(score, positive, specificity)[positive].mean())


def calls_at(score: np.ndarray, positive: np.ndarray, specificity: float) -> np.ndarray:
    """Call images positive, bool (N,), above the lowest threshold that calls enough of the negatives negative.

    Args:
        score: (N,), higher for positives.
        positive: bool (N,), true for some images and not for all.
        specificity: share of the negatives that must not lie above the threshold, in (0, 1).
    """
    negatives = np.sort(score[~positive])
    needed = int(negatives_below(specificity, np.array(len(negatives))))
    called: np.ndarray = score > negatives[needed - 1]
    return called


def negatives_below(specificity: float, num: np.ndarray) -> np.ndarray:
    """How many of `num` negatives must be called negative for the specificity: 9 of 10 for 0.9, 10 of 11."""
    # 0.95 * 20 is a little more than 19 in floating point.
    needed: np.ndarray = np.ceil(specificity * np.asarray(num, dtype=np.float64) - 1e-9)
    return needed


@dataclass(frozen=True)
class Ranks:
    """One class against the rest. P positives and M negatives; A arms of S repeats.

    positives: rows of the images (P,). negatives: rows of the images by rising score, (A, S, M). below, upto: how many
    negatives score less than each positive, or less or the same, (A, S, P).
    """

    positives: np.ndarray
    negatives: np.ndarray
    below: np.ndarray
    upto: np.ndarray

    def scores(self, weights: np.ndarray, primary: Primary) -> np.ndarray:
        """The metric of this class when image i counts `weights[:, i]` times, (B, N) -> (A, B, S)."""
        own = weights[:, self.positives]
        positives = own.sum(axis=1)
        negatives = weights.sum(axis=1) - positives
        defined = (positives > 0) & (negatives > 0)
        found = np.empty((len(self.below), len(weights), self.below.shape[1]))
        for arm, repeat in np.ndindex(self.below.shape[:2]):
            reached = np.zeros((len(weights), self.negatives.shape[2] + 1))
            np.cumsum(weights.take(self.negatives[arm, repeat], axis=1), axis=1, out=reached[:, 1:])
            below = reached.take(self.below[arm, repeat], axis=1)
            if primary.name == "sensitivity":
                called = below >= negatives_below(primary.specificity, negatives)[:, None]
                top, bottom = np.einsum("bp,bp->b", own, called, optimize=False), positives
            else:
                below += reached.take(self.upto[arm, repeat], axis=1)
                top, bottom = np.einsum("bp,bp->b", own, below, optimize=False), 2.0 * positives * negatives
            found[arm, :, repeat] = np.divide(top, bottom, out=np.full(len(weights), np.nan), where=defined)
        return found


def rank_classes(labels: np.ndarray, probs: Sequence[np.ndarray], primary: Primary) -> list[Ranks]:
    """The positive class, or every class, of those that have positives and negatives."""
    classes = range(probs[0].shape[2]) if primary.positive is None else [primary.positive]
    return [
        _rank_class(labels == c, np.stack([p[:, :, c] for p in probs])) for c in classes if 0 < (labels == c).mean() < 1
    ]


def _rank_class(positive: np.ndarray, scores: np.ndarray) -> Ranks:
    """Rank the scores (A, S, N) of one class."""
    rows = np.flatnonzero(~positive)
    order = np.argsort(scores[:, :, rows], axis=2, kind="stable")
    below, upto = (np.empty((*scores.shape[:2], int(positive.sum())), dtype=np.int64) for _ in range(2))
    for place in np.ndindex(scores.shape[:2]):
        ascending = scores[place][rows[order[place]]]
        below[place] = np.searchsorted(ascending, scores[place][positive], side="left")
        upto[place] = np.searchsorted(ascending, scores[place][positive], side="right")
    return Ranks(np.flatnonzero(positive), rows[order], below, upto)
