"""Asks whether the generator tells the images it was shown from images it never saw: membership inference.

Members are shown images, non-members unseen ones. Each gets a score, smaller for a more likely member:

- loss: the generator's own `loss` of the image (Yeom et al. 2018, arXiv:1709.01604), the smallest over its parts;
- distance: log d(x, pool) - log d(x, other real images), d being the distance to the nearest neighbour in a feature
  space and the other real images those of other groups, shown or not: a plain image is near to everything and would
  look like a member. It is what somebody can compute who has the pool alone, and grows in power with the pool.

An attacker who may accuse `fpr` of the non-members accuses everybody below an order statistic of their scores. The gate
reports what share of the members that finds (Carlini et al. 2022, arXiv:2112.03570: an average such as the AUC hides
that a few images are exposed for certain). With M unseen groups the smallest such FPR is 1 / (M + 1): with 30 unseen
patients, "1 %" is 3 %. The p value knows that, since it is beta-binomial in M (`_order_statistics.tail_p_value`).

The test takes shown and unseen images to be of one law, as a random split by group makes them. A sampler that shows the
typical images only (coreset) breaks that, and what it rejects may be innocent.
"""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from medsynth_ray.errors import ConfigError
from medsynth_ray.gates._distances import blocks
from medsynth_ray.gates._order_statistics import auc_below, auc_interval, one_per_group, tail_p_value, threshold
from medsynth_ray.gates._shares import clopper_pearson
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import (
    Component,
    ComponentConfig,
    Features,
    Fitted,
    GateResult,
    HasLoss,
    Need,
    Pool,
    Runtime,
    Spec,
)
from medsynth_ray.seeds import derive

_TINY_DISTANCE = 1e-9


class Membership(Component):
    """Rejects the pool of a generator that gives away whom it was shown; drops no single image."""

    class Config(ComponentConfig):
        """Score, space and error rates."""

        score: Literal["auto", "loss", "distance"] = "auto"
        """loss: the generator's own, an error if it offers none; distance: of real images to the pool; auto: loss where
        the generator offers it."""
        space: Spec = Spec(use="efficientnet_lite0")
        """Feature space of the distances."""
        fpr: float = Field(default=0.01, gt=0.0, le=0.2)
        """Share of unseen images that are taken for members; with M < 1/fpr unseen groups it is 1/(M + 1)."""
        max_tpr: float = Field(default=0.02, gt=0.0, le=1.0)
        """A pool is rejected only if more than this share of the shown images is found, for certain (its lower bound).
        0.02 at an FPR of 0.01 doubles the odds that an accused patient was shown; thousands of shown images make even
        harmless differences significant."""
        alpha: float = Field(default=0.01, gt=0.0, lt=1.0)
        """And only if so many are found by chance with at most this probability."""

        @model_validator(mode="after")
        def _limit_is_above_chance(self) -> Self:
            if self.max_tpr < self.fpr:
                raise ValueError(f"max_tpr must be at least fpr, got {self.max_tpr} < {self.fpr}")
            return self

        @classmethod
        def tiny(cls) -> Self:
            """A small input for the feature network."""
            return cls(space=Spec(use="efficientnet_lite0", config={"resolution": 32, "batch_size": 4}))

        def needs(self) -> tuple[Need, ...]:
            """The generator of the pool, and the feature space, unless `score` rules one out."""
            fitted = () if self.score == "distance" else (Fitted(),)
            return fitted if self.score == "loss" else (*fitted, Features(self.space))

    config: Config

    def judge(self, pool: Pool, *, shown: ImageSet, unseen: ImageSet, seed: int, runtime: Runtime) -> GateResult:
        """Attack shown and unseen images of the same classes, one of each group.

        Numbers: `tpr_at_1_fpr` (named by `fpr` in per cent) with `_low` and `_high`, its exact 95 % interval given the
        threshold; `fpr`, what was reached; `p`; `auc`, `auc_low`, `auc_high`; `num_members`, `num_nonmembers`;
        `uses_loss`, 1 or 0.

        Raises:
            ValueError: the pool is empty, or there is no shown image or fewer than two unseen groups of a shared class.
            ConfigError: `score` is loss and the generator offers none.
        """
        members, nonmembers = _rows(shown, unseen, seed), _rows(unseen, shown, seed)
        _check_sizes(pool, members, nonmembers)
        generators = self._losing(runtime)
        if generators:
            own, null = (
                smallest_loss(generators, images.take(rows), seed=seed, runtime=runtime)
                for images, rows in ((shown, members), (unseen, nonmembers))
            )
        else:
            own, null = self._distances(pool, shown, unseen, members, nonmembers, runtime)
        runtime.progress(1, 1, "members attacked")
        return self._judged(len(pool), own, null, uses_loss=bool(generators))

    def _losing(self, runtime: Runtime) -> tuple[HasLoss, ...]:
        if self.config.score == "distance":
            return ()
        parts = runtime.fitted()
        losing = tuple(part for part in parts if isinstance(part, HasLoss))
        if parts and len(losing) == len(parts):
            return losing
        if self.config.score == "loss":
            names = ", ".join(sorted({type(part).__name__ for part in parts})) or "none"
            raise ConfigError(
                f"membership: score is loss, but the generator ({names}) offers none; use auto or distance"
            )
        return ()

    def _distances(
        self,
        pool: Pool,
        shown: ImageSet,
        unseen: ImageSet,
        members: np.ndarray,
        nonmembers: np.ndarray,
        runtime: Runtime,
    ) -> tuple[np.ndarray, np.ndarray]:
        synthetic, *real = (runtime.features(images, self.config.space) for images in (pool.images, shown, unseen))
        groups = np.unique(np.concatenate([shown.groups, unseen.groups]), return_inverse=True)[1]
        rows = np.concatenate([members, len(shown) + nonmembers])
        scores = nearness(np.concatenate(real), synthetic, groups, rows)
        return scores[: len(members)], scores[len(members) :]

    def _judged(self, num_images: int, own: np.ndarray, null: np.ndarray, *, uses_loss: bool) -> GateResult:
        limit, rank = threshold(null, self.config.fpr)
        count, num, num_null = int((own < limit).sum()), len(own), len(null)
        low, high = clopper_pearson(count, num)
        p, auc = tail_p_value(count, num, rank, num_null), auc_below(own, null)
        auc_low, auc_high = auc_interval(auc, num, num_null)
        name = f"tpr_at_{100 * self.config.fpr:g}_fpr"
        numbers = {
            name: count / num, f"{name}_low": low, f"{name}_high": high, "fpr": rank / (num_null + 1), "p": p,
            "auc": auc, "auc_low": auc_low, "auc_high": auc_high, "num_members": float(num),
            "num_nonmembers": float(num_null), "uses_loss": float(uses_loss),
        }  # fmt: skip
        passed = p > self.config.alpha or low <= self.config.max_tpr
        reason = (
            f"membership by {'loss' if uses_loss else 'distance'}: {count} of {num} shown images are found "
            f"({count / num:.1%}, 95 % interval [{low:.1%}, {high:.1%}], limit {self.config.max_tpr:.1%}) where "
            f"{numbers['fpr']:.1%} of unseen ones are (p = {p:.2g}; AUC {auc:.2f} [{auc_low:.2f}, {auc_high:.2f}])"
        )
        return GateResult(np.ones(num_images, dtype=bool), passed, "" if passed else reason, numbers)


def smallest_loss(generators: tuple[HasLoss, ...], images: ImageSet, *, seed: int, runtime: Runtime) -> np.ndarray:
    """The loss of each image under the part that finds it most likely: (N,)."""
    losses = [part.loss(images, seed=derive("membership", seed), runtime=runtime) for part in generators]
    assert np.isfinite(losses).all(), "a generator's loss is not finite"
    smallest: np.ndarray = np.min(losses, axis=0)
    return smallest


def nearness(real: np.ndarray, synthetic: np.ndarray, groups: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Compute log d(x, synthetic) - log d(x, real of other groups) of the real features at `rows`: float64 (R,).

    real: (N, D) of groups int64 (N,), at least two of them. synthetic: (M, D).
    """
    scores = np.empty(len(rows))
    for (block, to_pool), (_, to_real) in zip(blocks(real[rows], synthetic), blocks(real[rows], real), strict=True):
        to_real[groups[rows[block]][:, None] == groups] = np.inf
        nearest = (np.maximum(distances.min(axis=1), _TINY_DISTANCE) for distances in (to_pool, to_real))
        scores[block] = np.subtract(*(np.log(distance) for distance in nearest))
    return scores


def _rows(images: ImageSet, others: ImageSet, seed: int) -> np.ndarray:
    """Rows of one image of each group, among the classes that `others` hold."""
    rows = np.flatnonzero(np.isin(images.labels, others.labels))
    picked: np.ndarray = rows[one_per_group(images.groups[rows], seed)]
    return picked


def _check_sizes(pool: Pool, members: np.ndarray, nonmembers: np.ndarray) -> None:
    if not len(pool):
        raise ValueError("membership: the pool is empty")
    if not len(members) or len(nonmembers) < 2:
        raise ValueError(
            "membership needs shown images of at least 1 group and unseen ones (val) of at least 2, of the same "
            f"classes; got {len(members)} and {len(nonmembers)} groups"
        )
