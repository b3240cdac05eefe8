"""Asks the sweep's real-only classifier whether synthetic images show what their label says.

It was fitted on real images alone, so its agreement with the labels of the pool owes nothing to the pool. It errs on
real images too: what it cannot recognise there says nothing, so agreement is judged against its recall on unseen real
images of the same class.

The rule in one sentence: the pool is rejected if, for some class, even the upper Wilson bound of the agreement lies
below `min_agreement_ratio` times the lower Wilson bound of the recall on unseen images. Both uncertainties are read in
the pool's favour: few images, or a class that the classifier hardly knows, reject nothing. Images that merely look
different from real ones lose some agreement as well, hence a ratio well below 1.

A radiologist who saw the disease in 4 of 31 synthetic positives leaves an interval of [5 %, 29 %]: against a recall of
at least 58 % that is a rejection at the default ratio, whoever the reader is.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from medsynth_ray.gates._order_statistics import one_per_group
from medsynth_ray.gates._shares import wilson
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Baseline, Component, ComponentConfig, GateResult, Need, Pool, Runtime


class LabelFidelity(Component):
    """Rejects a pool whose labels a classifier of real images does not see, class by class."""

    class Config(ComponentConfig):
        """The limit, and whether to filter."""

        min_agreement_ratio: float = Field(default=0.5, gt=0.0, le=1.0)
        """Agreement on synthetic images of a class over recall on unseen real ones, below which a pool is rejected."""
        drop: bool = False
        """Drop images whose predicted class is not their label. What is left is what the classifier knew already, so
        there is less to gain from it."""

        def needs(self) -> tuple[Need, ...]:
            """The real-only classifier."""
            return (Baseline(),)

    config: Config

    def judge(self, pool: Pool, *, shown: ImageSet, unseen: ImageSet, seed: int, runtime: Runtime) -> GateResult:
        """Predict the pool and, one image of each group and class, `unseen`; `shown` plays no part.

        Numbers: `agreement` over all classes; for each class of the pool `agreement_<name>`, `agreement_low_<name>`,
        `agreement_high_<name>` and, where `unseen` holds the class, `unseen_recall_<name>` with `unseen_recall_low_`
        and `unseen_recall_high_`; intervals are Wilson's, 95 %.

        Raises:
            ValueError: the pool is empty.
        """
        if not len(pool):
            raise ValueError("label_fidelity: the pool is empty")
        classifier = runtime.baseline()
        agrees = classifier.predict(pool.images, runtime=runtime).argmax(axis=1) == pool.images.labels
        real = unseen.take(_one_per_group_and_class(unseen, seed))
        recalled = classifier.predict(real, runtime=runtime).argmax(axis=1) == real.labels
        numbers, reasons = {"agreement": float(agrees.mean())}, []
        for label in np.unique(pool.images.labels):
            name = pool.images.class_names[label]
            own, others = agrees[pool.images.labels == label], recalled[real.labels == label]
            numbers |= _shares("agreement", name, own) | (_shares("unseen_recall", name, others) if len(others) else {})
            reasons += self._complaints(name, own, others)
        keep = agrees if self.config.drop else np.ones(len(pool), dtype=bool)
        return GateResult(keep, not reasons, "; ".join(reasons), numbers)

    def _complaints(self, name: str, agrees: np.ndarray, recalled: np.ndarray) -> list[str]:
        high, recall_low = wilson(int(agrees.sum()), len(agrees))[1], wilson(int(recalled.sum()), len(recalled))[0]
        limit = self.config.min_agreement_ratio * recall_low
        if high >= limit:
            return []
        return [
            f"label of {name}: the real-only classifier sees it in {int(agrees.sum())} of {len(agrees)} synthetic "
            f"images (upper bound {high:.1%}), in {int(recalled.sum())} of {len(recalled)} unseen real ones "
            f"(lower bound {recall_low:.1%}; limit {limit:.1%})"
        ]


def _one_per_group_and_class(images: ImageSet, seed: int) -> np.ndarray:
    own = [np.flatnonzero(images.labels == label) for label in range(images.num_classes)]
    return np.sort(np.concatenate([rows[one_per_group(images.groups[rows], seed)] for rows in own]))


def _shares(what: str, name: str, hits: np.ndarray) -> dict[str, float]:
    low, high = wilson(int(hits.sum()), len(hits))
    return {f"{what}_{name}": float(hits.mean()), f"{what}_low_{name}": low, f"{what}_high_{name}": high}
