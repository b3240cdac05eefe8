"""Finds synthetic images that are too near to an image the generator was shown, and rejects a pool with too many.

The suspicion of an image x is t(x) = log d(x, shown) - log d(x, unseen), d being the distance to the nearest neighbour:
a blurred or plain image is near to everything, a copy is near to what was shown alone. Smaller is more suspicious.
There are two distances: between learned features, and between gray pixels after registration (`_registration.py`), for
which a copy stays near when it is mirrored, cropped, shifted, turned a little, brighter or darker.

The threshold is an order statistic of t over real images that the generator never saw (each compared with the unseen
images of other groups; one image per group, since images of one patient are not independent): the j-th smallest of M,
j = floor(tail_share (M + 1)), at least 1. If the generator's images behave like unseen ones, the number of n that fall
below it is beta-binomial(n, j, M + 1 - j) whatever the distribution of t; the pool is rejected if that number is
improbable in either space, Bonferroni over the two. Averages of distances do not see a few copies; a tail count does.
The null takes the pool's classes to be mixed like the unseen ones. All that is done to the images of the pool (to look
for mirrored ones, to register) is done to the unseen ones, which is why the null needs no assumption about it.

How many copies may be left? The gate measures its own sensitivity: it alters a sample of the shown images in each of
the declared ways, judges these as it judges the pool, and counts how many are flagged in at least one space. Let c be
the share of copies in what the generator draws, made of shown images taken evenly and altered in declared ways, in any
mixture; s the sensitivity to the alteration that is hardest to see; f the share that is flagged. Then f >= c s. With an
upper 97.5 % bound of f and a lower 97.5 % bound of s (both Clopper-Pearson; the smallest of the lower bounds of all
alterations, which is not above that of the hardest), c is below their quotient with 95 % confidence. Copies of other
kinds are not covered by it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from pydantic import Field, field_validator
from scipy.special import betaincinv, betaln, gammaln

from medsynth_ray.gates._alterations import ALTERATIONS, Alteration, alter
from medsynth_ray.gates._registration import SIDE_PX, nearest_registered, registrable
from medsynth_ray.images import ImageSet, concat
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
from medsynth_ray.seeds import derive, rng

_PIXELS = f"pixels_{SIDE_PX}"
_TINY_DISTANCE = 1e-9
_BLOCK_IMAGES = 512
_NUM_YARDSTICKS = 16
_YARDSTICKS: OrderedDict[tuple[str, int, str, str, str, str], tuple[np.ndarray, np.ndarray]] = OrderedDict()
"""The last ones of this process, see `NearCopy._yardstick`: two for each set of shown images."""

Nearest = Callable[[Any, Any, np.ndarray | None], tuple[np.ndarray, np.ndarray]]
"""(x, y, left_out) -> distance of each image of x to its nearest of y, float64 (N,), and that one's row, int64 (N,).

left_out: None, or bool (N, M): pairs that are not compared.
"""


class NearCopy(Component):
    """Drops suspicious images one by one and rejects the pool when there are more of them than chance makes."""

    version = 2

    class Config(ComponentConfig):
        """Spaces, error rates, and the alterations that the bound of the copy rate covers."""

        space: Spec = Spec(use="efficientnet_lite0")
        """Feature space beside the registered pixels."""
        tail_share: float = Field(default=0.001, gt=0.0, le=0.2)
        """Share of unseen real images that would be flagged, and so of innocent synthetic ones; with M < 1/tail_share
        unseen groups it is 1/(M + 1). Smaller sees fewer copies: of 1,500 images 11 must fall below the smallest of 944
        to reject the pool, but 15 below the second."""
        alpha: float = Field(default=0.01, gt=0.0, lt=1.0)
        """Probability of rejecting an innocent pool, both spaces together."""
        alterations: tuple[Alteration, ...] = Field(default=ALTERATIONS, min_length=1)
        """Ways in which a copy may be altered (each also tried on shown images, to see how many would be found)."""
        num_altered: int = Field(default=100, ge=1)
        """Shown images that are altered in each way, at most; more of them make the bound tighter and cost time."""
        max_pairs: int = Field(default=200, ge=0)
        """At most so many flagged pairs are listed, the most suspicious ones."""

        @field_validator("alterations")
        @classmethod
        def _named_once(cls, value: tuple[Alteration, ...]) -> tuple[Alteration, ...]:
            if len(set(value)) < len(value):
                raise ValueError(f"alterations must be named once each, got {list(value)}")
            return value

        @classmethod
        def tiny(cls) -> Self:
            """A small input for the feature network, few altered images."""
            return cls(space=Spec(use="efficientnet_lite0", config={"resolution": 32, "batch_size": 4}), num_altered=4)

        def needs(self) -> tuple[Need, ...]:
            """The feature space."""
            return (Features(self.space),)

    config: Config

    def judge(self, pool: Pool, *, shown: ImageSet, unseen: ImageSet, seed: int, runtime: Runtime) -> GateResult:
        """Flag and count in both spaces, and measure what would have been seen.

        Numbers of each space: `num_flagged`; `expected_flagged` and `p` under the null; `flagged_share` and
        `flagged_share_upper95`, its one-sided exact bound (Clopper-Pearson), which says nothing of copies that are not
        seen; `detectable_share`, the smallest share of flagged images that would have been rejected (above 1: none
        would); `sensitivity_<alteration>`, the share of so altered shown images that are flagged.
        Of both spaces together (flagged in one is flagged): `num_flagged`, `sensitivity_<alteration>`, and
        `copy_rate_upper95_declared_alterations`, see above; 1 where nothing can be said.

        Raises:
            ValueError: the pool or `shown` is empty, or `unseen` has fewer than two groups.
        """
        return self.decide(self.look(pool.images, shown=shown, unseen=unseen, seed=seed, runtime=runtime), shown.ids)

    def look(
        self, images: ImageSet, *, shown: ImageSet, unseen: ImageSet, seed: int, runtime: Runtime
    ) -> tuple[Look, ...]:
        """Compare in both spaces: the costly half of `judge`. What is said of an image does not depend on the others.

        Raises:
            ValueError: `images` or `shown` is empty, or `unseen` has fewer than two groups.
        """
        _check_sizes(images, shown, unseen)
        looks: list[Look] = []
        for name, ready, nearest in self._spaces(runtime):
            space = _Space(name, ready, nearest, ready(shown), ready(unseen))
            null, copies = self._yardstick(space, shown, unseen, seed)
            looks.append(Look(name, null, copies, *space.suspicion(images)))
            runtime.progress(len(looks), 2, "spaces compared")
        return tuple(looks)

    def _yardstick(self, space: _Space, shown: ImageSet, unseen: ImageSet, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute t of calibration and altered shown images; kept for the next pool, since it is not about one."""
        key = (self.config.model_dump_json(), seed, shown.fingerprint, unseen.fingerprint, space.name, space.content)
        if key not in _YARDSTICKS:
            groups = np.unique(unseen.groups, return_inverse=True)[1]
            calibration = _one_per_group(groups, seed)
            own = groups[calibration][:, None] == groups[None, :]
            null, _ = space.suspicion(unseen.take(calibration), left_out=own)
            copies, _ = space.suspicion(self._altered(shown, seed))
            _YARDSTICKS[key] = (null, copies)
            while len(_YARDSTICKS) > _NUM_YARDSTICKS:
                _YARDSTICKS.popitem(last=False)
        _YARDSTICKS.move_to_end(key)
        return _YARDSTICKS[key]

    def decide(self, looks: tuple[Look, ...], shown_ids: np.ndarray) -> GateResult:
        """Count: the cheap half of `judge`."""
        judged = [self._count(look) for look in looks]
        flagged = np.any([tail.flagged for tail in judged], axis=0)
        numbers = {name: value for tail in judged for name, value in tail.numbers.items()}
        numbers |= {"num_unseen_groups": float(len(looks[0].null)), **self._copy_rate(judged)}
        spaces = [t.look.space for t in judged if t.numbers[f"p_{t.look.space}"] <= self._level]
        reasons = [self._reason(space, len(flagged), numbers) for space in spaces]
        pairs = _pairs(judged, shown_ids)[: self.config.max_pairs]
        return GateResult(~flagged, not reasons, "; ".join(reasons), numbers, pairs)

    @property
    def _level(self) -> float:
        return self.config.alpha / 2

    def _spaces(self, runtime: Runtime) -> Iterator[tuple[str, Callable[[ImageSet], Any], Nearest]]:
        """Name, what makes images ready to be compared, and how they are compared."""
        yield _PIXELS, lambda images: registrable(images.pixels), nearest_registered
        yield self.config.space.use, lambda images: runtime.features(images, self.config.space), nearest_features

    def _altered(self, shown: ImageSet, seed: int) -> ImageSet:
        """The same `num_altered` shown images once for each alteration; chosen by content, whatever their order."""
        draws = np.array([derive("near_copy", seed, digest.tobytes().hex()) for digest in shown.digests])
        sample = shown.take(np.argsort(draws, kind="stable")[: self.config.num_altered])
        return concat([alter(sample, name, seed=seed) for name in self.config.alterations])

    def _count(self, look: Look) -> _Tail:
        num, num_null = len(look.scores), len(look.null)
        rank = max(1, int(self.config.tail_share * (num_null + 1) + 1e-9))
        threshold = np.partition(look.null, rank - 1)[rank - 1]
        flagged, found = look.scores < threshold, self._by_alteration(look.copies < threshold)
        count = int(flagged.sum())
        p_values = tail_p_values(num, rank, num_null)
        numbers = {
            "num_flagged": float(count),
            "expected_flagged": num * rank / (num_null + 1),
            "p": float(p_values[count]),
            "flagged_share": count / num,
            "flagged_share_upper95": upper_bound(count, num),
            "detectable_share": float(np.argmax(np.append(p_values, 0.0) <= self._level)) / num,
            **{f"sensitivity_{name}": float(rows.mean()) for name, rows in found.items()},
        }
        named = {f"{name}_{look.space}": value for name, value in numbers.items()}
        return _Tail(look, flagged, look.copies < threshold, named)

    def _by_alteration(self, rows: np.ndarray) -> dict[Alteration, np.ndarray]:
        names = self.config.alterations
        return dict(zip(names, rows.reshape(len(names), -1), strict=True))

    def _copy_rate(self, judged: list[_Tail]) -> dict[str, float]:
        """Both spaces together. Half of the 5 % error goes to the flagged share, half to the sensitivity."""
        flagged = np.any([tail.flagged for tail in judged], axis=0)
        found = self._by_alteration(np.any([tail.copies_flagged for tail in judged], axis=0))
        most = upper_bound(int(flagged.sum()), len(flagged), confidence=0.975)
        least = min(1.0 - upper_bound(int((~rows).sum()), len(rows), confidence=0.975) for rows in found.values())
        return {
            "num_flagged": float(flagged.sum()),
            **{f"sensitivity_{name}": float(rows.mean()) for name, rows in found.items()},
            "copy_rate_upper95_declared_alterations": most / least if most < least else 1.0,
        }

    def _reason(self, space: str, num: int, numbers: dict[str, float]) -> str:
        count, expected, p = (numbers[f"{name}_{space}"] for name in ("num_flagged", "expected_flagged", "p"))
        return (
            f"near copies in {space}: {count:.0f} of {num} images lie as near to a shown image as unseen images "
            f"hardly ever do ({expected:.1f} expected, p = {p:.2g}, limit {self._level:.2g})"
        )


@dataclass(frozen=True)
class Look:
    """What one space says: t of the calibration images (M,), of the altered shown images (A * n,), of the judged (N,).

    nearest: row of each judged image's nearest shown image, int64 (N,).
    """

    space: str
    null: np.ndarray
    copies: np.ndarray
    scores: np.ndarray
    nearest: np.ndarray

    def take(self, rows: np.ndarray) -> Look:
        """The same look at some of the judged images."""
        return replace(self, scores=self.scores[rows], nearest=self.nearest[rows])


@dataclass(frozen=True)
class _Space:
    """A way to compare images, and what the shown and the unseen ones are in it."""

    name: str
    ready: Callable[[ImageSet], Any]
    nearest: Nearest
    shown: Any
    unseen: Any

    @property
    def content(self) -> str:
        """What its name does not tell: the features of a classifier depend on what that was trained on."""
        arrays = [a for a in (self.shown, self.unseen) if isinstance(a, np.ndarray)]
        return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()

    def suspicion(self, images: ImageSet, left_out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Compute t (N,) of each image, and the row of its nearest shown image, int64 (N,)."""
        return suspicion(self.ready(images), self.shown, self.unseen, nearest=self.nearest, left_out=left_out)


@dataclass(frozen=True)
class _Tail:
    """Who is flagged in one space: judged images, bool (N,), and altered shown ones, bool (A * n,)."""

    look: Look
    flagged: np.ndarray
    copies_flagged: np.ndarray
    numbers: dict[str, float]


def suspicion(
    x: Any, shown: Any, unseen: Any, *, nearest: Nearest, left_out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Compute t (N,) of each image of x, and the row of its nearest shown image, int64 (N,).

    left_out: bool (N, M), images of x and unseen ones that are not compared.
    """
    to_shown, rows = nearest(x, shown, None)
    to_unseen, _ = nearest(x, unseen, left_out)
    return np.log(np.maximum(to_shown, _TINY_DISTANCE)) - np.log(np.maximum(to_unseen, _TINY_DISTANCE)), rows


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


def upper_bound(count: int, num: int, *, confidence: float = 0.95) -> float:
    """One-sided exact upper bound of a share of which `count` of `num` were seen (Clopper-Pearson)."""
    return 1.0 if count == num else float(betaincinv(count + 1, num - count, confidence))


def nearest_features(x: np.ndarray, y: np.ndarray, left_out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
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


def _one_per_group(groups: np.ndarray, seed: int) -> np.ndarray:
    """Rows of one image of each group, in order."""
    order = rng("near_copy", seed).permutation(len(groups))
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])


def _pairs(judged: list[_Tail], shown_ids: np.ndarray) -> tuple[FlaggedPair, ...]:
    pairs = [
        FlaggedPair(int(row), str(shown_ids[t.look.nearest[row]]), t.look.space, float(t.look.scores[row]))
        for t in judged
        for row in np.flatnonzero(t.flagged)
    ]
    return tuple(sorted(pairs, key=lambda pair: (pair.score, pair.row, pair.space)))


def _check_sizes(pool: ImageSet, shown: ImageSet, unseen: ImageSet) -> None:
    if not len(pool) or not len(shown):
        raise ValueError(f"near_copy needs a pool and shown images, got {len(pool)} and {len(shown)}")
    num_groups = len(np.unique(unseen.groups))
    if num_groups < 2:
        raise ValueError(f"near_copy needs unseen images (val) of at least 2 groups to calibrate on, got {num_groups}")
