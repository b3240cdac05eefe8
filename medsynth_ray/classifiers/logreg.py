"""The elastic-net logistic regression on InceptionV3 features of the retinopathy experiment, by scikit-learn.

Stated there (Table 5.14): elastic net with L1 ratio 0.5, C 10, solver saga, one against rest, at most 300 iterations,
random state 123. Not stated: the features' resolution (299 px, the network's own, of images at 300) and scale (as they
are; `standardise` would help saga); whether the solver converged (the history's `converged` says so, 0 or 1).

The seed sets the order in which saga takes the images. Where it converges, repeats on the same images hardly differ,
and an interval then rests on the patients alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from pydantic import Field
from scipy.special import log_expit, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from medsynth_ray.classifiers._features import (
    TINY_SPACE,
    FeatureClassifier,
    FeatureConfig,
    State,
    over_all_classes,
    present_classes,
)
from medsynth_ray.classifiers._fitting import ClassWeight
from medsynth_ray.errors import Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import History, Runtime, Spec


class Logreg(FeatureClassifier):
    """One logistic regression for each class against the rest."""

    class Config(FeatureConfig):
        """Settings."""

        space: Spec = Spec(
            use="timm_model", config={"model": "inception_v3.tv_in1k", "weights": "inception_v3", "resolution": 299}
        )
        """The feature space; `weights` in its config is a local path or a registered name."""
        C: float = Field(default=10.0, gt=0.0)
        """Inverse strength of the penalty."""
        l1_ratio: float = Field(default=0.5, ge=0.0, le=1.0)
        """Share of L1 in the penalty, the rest is L2."""
        max_iter: int = Field(default=300, ge=1)
        """Passes over the training set at which saga stops in any case."""
        tol: float = Field(default=1e-4, gt=0.0)
        """Relative change of the largest weight below which saga has converged."""
        class_weight: ClassWeight = "none"
        """balanced: in each of the regressions, a class and the rest weigh the same."""

        @classmethod
        def tiny(cls) -> Logreg.Config:
            """Ten passes on cheap features."""
            return cls(space=TINY_SPACE, max_iter=10)

    config: Config

    def learn(
        self,
        x_ND: np.ndarray,
        train: ImageSet,
        *,
        watch: Callable[[State], dict[str, float]],
        seed: int,
        runtime: Runtime,
    ) -> tuple[State, History]:
        """History: one row with `converged` (0 or 1), the largest number of passes and val's numbers.

        Raises:
            ValueError: images of fewer than 2 classes.
            Stopped: the sweep asked for it.
        """
        present = present_classes(train)
        positives = present[1:] if len(present) == 2 else present  # two classes need one regression
        x_ND, found = x_ND.astype(np.float64), []
        for number, label in enumerate(positives):
            if runtime.stopped():
                raise Stopped(f"asked to stop after {number} of {len(positives)} regressions")
            found.append(self._regression(x_ND, train.labels == label, seed))
            runtime.progress(number + 1, len(positives), "regressions")
        state = {
            "weight": np.concatenate([one.coef_ for one in found]),
            "bias": np.concatenate([one.intercept_ for one in found]),
            "classes": present,
            "num_classes": np.array([train.num_classes]),
        }
        passes = max(int(one.n_iter_[0]) for one in found)
        numbers = {"converged": float(passes < self.config.max_iter), "num_passes": float(passes)}
        return state, [{"epoch": float(passes), **numbers, **watch(state)}]

    def _regression(self, x_ND: np.ndarray, positive: np.ndarray, seed: int) -> LogisticRegression:
        config = self.config
        model = LogisticRegression(
            C=config.C, l1_ratio=config.l1_ratio, solver="saga", max_iter=config.max_iter, tol=config.tol,
            class_weight="balanced" if config.class_weight == "balanced" else None, random_state=seed % 2**32,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the history says so
            return model.fit(x_ND, positive)

    def probs(self, state: State, x_ND: np.ndarray) -> np.ndarray:
        """Each class's own probability, scaled to a sum of 1."""
        logits = x_ND.astype(np.float64) @ state["weight"].T + state["bias"]
        if len(state["classes"]) == 2:
            logits = np.concatenate([-logits, logits], axis=1)
        # In logarithms: far from all classes, every probability is 0 in floating point.
        return over_all_classes(softmax(log_expit(logits), axis=1), state)
