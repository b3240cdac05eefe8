"""Finds synthetic images that are too near to an image the generator was shown, and rejects a pool with too many.

The suspicion of an image x is t(x) = log d(x, shown) - log d(x, unseen), d being the distance to the nearest neighbour:
a blurred or plain image is near to everything, a copy is near to what was shown alone. Smaller is more suspicious.

The threshold is an order statistic of t over real images that the generator never saw (each compared with the unseen
images of other groups; one image per group, since images of one patient are not independent): the j-th smallest of M,
j = floor(tail_share (M + 1)), at least 1. If the generator's images behave like unseen ones, the number of n that fall
below it is beta-binomial(n, j, M + 1 - j) whatever the distribution of t; the pool is rejected if that number is
improbable in either of two spaces (gray pixels of low resolution, and learned features), Bonferroni over the spaces.
Averages of distances do not see a few copies; a tail count does. The null takes the pool's classes to be mixed like the
unseen ones, and neither space looks for mirrored copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from pydantic import Field
from scipy.special import betaincinv, betaln, gammaln

from medsynth_ray.gates._lowres import lowres
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import (
    Component,
    ComponentConfig,
    Features,
    FlaggedPair,
    GateResult,
    Need,
    Pool,
    Runtime,
    Spec,
)
from medsynth_ray.seeds import rng

_SIDE_PX = 16
_PIXELS = f"pixels_{_SIDE_PX}"
_MIN_LEVELS = 1.0
_TINY_DISTANCE = 1e-9
_BLOCK_IMAGES = 512


class NearCopy(Component):
    """Drops suspicious images one by one and rejects the pool when there are more of them than chance makes."""

    class Config(ComponentConfig):
        """Spaces and error rates."""

        space: Spec = Spec(use="efficientnet_lite0")
        """Feature space beside the low-resolution pixels."""
        tail_share: float = Field(default=0.01, gt=0.0, le=0.2)
        """Share of unseen real images that would be flagged, and so of innocent synthetic ones; with M < 1/tail_share
        unseen groups it is 1/(M + 1)."""
        alpha: float = Field(default=0.01, gt=0.0, lt=1.0)
        """Probability of rejecting an innocent pool, both spaces together."""
        max_pairs: int = Field(default=200, ge=0)
        """At most so many flagged pairs are listed, the most suspicious ones."""

        @classmethod
        def tiny(cls) -> Self:
            """A small input for the feature network."""
            return cls(space=Spec(use="efficientnet_lite0", config={"resolution": 32, "batch_size": 4}))

        def needs(self) -> tuple[Need, ...]:
            """The feature space."""
            return (Features(self.space),)

    config: Config

    def judge(self, pool: Pool, *, shown: ImageSet, unseen: ImageSet, seed: int, runtime: Runtime) -> GateResult:
        """Flag and count in both spaces.

        Numbers of each space: `num_flagged`; `expected_flagged` and `p` under the null; `flagged_share`;
        `copy_rate_upper95`, the one-sided exact (Clopper-Pearson) 95 % upper bound of the share of this generator's
        images that fall below the threshold - of copies that this space can see, with innocent images counted in;
        `detectable_share`, the smallest share of flagged images that would have been rejected (above 1: none would).

        Raises:
            ValueError: the pool or `shown` is empty, or `unseen` has fewer than two groups.
        """
        _check_sizes(pool, shown, unseen)
        groups = np.unique(unseen.groups, return_inverse=True)[1]
        calibration = _one_per_group(groups, seed)
        judged = []
        for space, (x, y, z) in self._views(pool.images, shown, unseen, runtime).items():
            null, _ = suspicion(z[calibration], y, z, own_groups=groups[calibration], unseen_groups=groups)
            judged.append(self._count(space, null, *suspicion(x, y, z)))
            runtime.progress(len(judged), 2, "spaces compared")
        keep = ~np.any([tail.flagged for tail in judged], axis=0)
        numbers = {name: value for tail in judged for name, value in tail.numbers.items()}
        numbers["num_unseen_groups"] = float(len(calibration))
        reasons = [self._reason(tail, len(pool)) for tail in judged if tail.numbers[f"p_{tail.space}"] <= self._level]
        pairs = _pairs(judged, shown.ids)[: self.config.max_pairs]
        return GateResult(keep, not reasons, "; ".join(reasons), numbers, pairs)

    @property
    def _level(self) -> float:
        return self.config.alpha / 2

    def _views(
        self, pool: ImageSet, shown: ImageSet, unseen: ImageSet, runtime: Runtime
    ) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        space = self.config.space
        pixels, shown_pixels, unseen_pixels = (_standardised(s.pixels) for s in (pool, shown, unseen))
        features, shown_features, unseen_features = (runtime.features(s, space) for s in (pool, shown, unseen))
        return {
            _PIXELS: (pixels, shown_pixels, unseen_pixels),
            space.use: (features, shown_features, unseen_features),
        }

    def _count(self, space: str, null: np.ndarray, scores: np.ndarray, nearest: np.ndarray) -> _Tail:
        num, num_null = len(scores), len(null)
        rank = max(1, int(self.config.tail_share * (num_null + 1) + 1e-9))
        flagged = scores < np.partition(null, rank - 1)[rank - 1]
        count = int(flagged.sum())
        p_values = tail_p_values(num, rank, num_null)
        numbers = {
            "num_flagged": float(count),
            "expected_flagged": num * rank / (num_null + 1),
            "p": float(p_values[count]),
            "flagged_share": count / num,
            "copy_rate_upper95": upper_bound(count, num),
            "detectable_share": float(np.argmax(np.append(p_values, 0.0) <= self._level)) / num,
        }
        return _Tail(space, flagged, scores, nearest, {f"{name}_{space}": value for name, value in numbers.items()})

    def _reason(self, tail: _Tail, num: int) -> str:
        count, expected, p = (tail.numbers[f"{n}_{tail.space}"] for n in ("num_flagged", "expected_flagged", "p"))
        return (
            f"near copies in {tail.space}: {count:.0f} of {num} images lie as near to a shown image as unseen images "
            f"hardly ever do ({expected:.1f} expected, p = {p:.2g}, limit {self._level:.2g})"
        )


@dataclass(frozen=True)
class _Tail:
    """One space. flagged: bool (N,). scores: t of each image. nearest: row of its nearest shown image."""

    space: str
    flagged: np.ndarray
    scores: np.ndarray
    nearest: np.ndarray
    numbers: dict[str, float]


def suspicion(
    x: np.ndarray,
    shown: np.ndarray,
    unseen: np.ndarray,
    *,
    own_groups: np.ndarray | None = None,
    unseen_groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute t (N,) of features x (N, D), and the row of each one's nearest shown image, int64 (N,).

    own_groups: groups of x, whose members among the unseen (of groups `unseen_groups`) are left out.
    """
    own = None if own_groups is None or unseen_groups is None else own_groups[:, None] == unseen_groups[None, :]
    to_shown, nearest = _nearest(x, shown)
    to_unseen, _ = _nearest(x, unseen, left_out=own)
    return np.log(np.maximum(to_shown, _TINY_DISTANCE)) - np.log(np.maximum(to_unseen, _TINY_DISTANCE)), nearest


def tail_p_values(num: int, rank: int, num_null: int) -> np.ndarray:
    """P(K >= k) for k = 0..num, K ~ beta-binomial(num, rank, num_null + 1 - rank): float64 (num + 1,).

    K counts how many of `num` new values fall below the `rank`-th smallest of `num_null` exchangeable ones.
    """
    k = np.arange(num + 1)
    choose = gammaln(num + 1) - gammaln(k + 1) - gammaln(num - k + 1)
    a, b = rank, num_null + 1 - rank
    mass = np.exp(choose + betaln(k + a, num - k + b) - betaln(a, b))
    p_values: np.ndarray = np.minimum(np.cumsum(mass[::-1])[::-1], 1.0)
    return p_values


def upper_bound(count: int, num: int) -> float:
    """One-sided exact 95 % upper bound of a share of which `count` of `num` were seen (Clopper-Pearson)."""
    return 1.0 if count == num else float(betaincinv(count + 1, num - count, 0.95))


def _nearest(x: np.ndarray, y: np.ndarray, *, left_out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each row of x to its nearest row of y, float64 (N,), and that row; left_out: bool (N, M)."""
    center = y.mean(axis=0, dtype=np.float64)
    x, y = ((values - center).astype(np.float32) for values in (x, y))
    squares = np.square(y).sum(axis=1)
    rows, distances = np.empty(len(x), dtype=np.int64), np.empty(len(x))
    for start in range(0, len(x), _BLOCK_IMAGES):
        block = slice(start, start + _BLOCK_IMAGES)
        relative = squares - 2.0 * (x[block] @ y.T)
        if left_out is not None:
            relative[left_out[block]] = np.inf
        rows[block] = relative.argmin(axis=1)
        # The product cancels for near copies: the distance itself is taken from the difference.
        distances[block] = np.linalg.norm(x[block].astype(np.float64) - y[rows[block]], axis=1)
    return distances, rows


def _standardised(pixels: np.ndarray) -> np.ndarray:
    """Low-resolution gray values (N, 256), each image with mean 0 and deviation 1 (plain images stay near 0)."""
    small = lowres(pixels, _SIDE_PX).reshape(len(pixels), -1)
    small -= small.mean(axis=1, keepdims=True)
    small /= np.maximum(small.std(axis=1, keepdims=True), _MIN_LEVELS)
    return small.astype(np.float32)


def _one_per_group(groups: np.ndarray, seed: int) -> np.ndarray:
    """Rows of one image of each group, in order."""
    order = rng("near_copy", seed).permutation(len(groups))
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])


def _pairs(judged: list[_Tail], shown_ids: np.ndarray) -> tuple[FlaggedPair, ...]:
    pairs = [
        FlaggedPair(int(row), str(shown_ids[tail.nearest[row]]), tail.space, float(tail.scores[row]))
        for tail in judged
        for row in np.flatnonzero(tail.flagged)
    ]
    return tuple(sorted(pairs, key=lambda pair: (pair.score, pair.row, pair.space)))


def _check_sizes(pool: Pool, shown: ImageSet, unseen: ImageSet) -> None:
    if not len(pool) or not len(shown):
        raise ValueError(f"near_copy needs a pool and shown images, got {len(pool)} and {len(shown)}")
    num_groups = len(np.unique(unseen.groups))
    if num_groups < 2:
        raise ValueError(f"near_copy needs unseen images (val) of at least 2 groups to calibrate on, got {num_groups}")
