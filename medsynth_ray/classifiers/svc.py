"""The support vector classifier on Xception features of the brain tumour experiment, by scikit-learn.

Stated there (Table 5.14): RBF kernel, C 10, gamma "scale", tolerance 0.01, at most 1000 iterations, random state 123.
Not stated: the features' resolution (299 px, the network's own, of images at 300) and scale (as they are); whether the
solver converged (here the history's `converged` says so, 0 or 1).

Probabilities are a softmax of the decision function (one against rest, from votes of one against one), so that the most
probable class is the predicted one. Platt's would come from folds that tear patients apart, can contradict the machine,
and cost five more fits; a temperature fitted on val does as well.

The fit draws nothing: repeats on the same images are equal, and an interval then rests on the patients alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import combinations
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC

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

ROWS_AT_ONCE = 512
"""Of a kernel matrix, which has a column for each support vector."""


class Svc(FeatureClassifier):
    """A support vector machine with an RBF kernel."""

    class Config(FeatureConfig):
        """Settings."""

        space: Spec = Spec(
            use="timm_model",
            config={"model": "legacy_xception.tf_in1k", "weights": "legacy_xception", "resolution": 299},
        )
        """The feature space; `weights` in its config is a local path or a registered name."""
        C: float = Field(default=10.0, gt=0.0)
        """Inverse strength of the regularisation."""
        gamma: Literal["scale"] | Annotated[float, Field(gt=0.0)] = "scale"
        """Of exp(-gamma |x - y|^2). scale: 1 / (number of features * variance of all their values)."""
        tol: float = Field(default=0.01, gt=0.0)
        """Where the solver stops."""
        max_iter: int = Field(default=1000, ge=1)
        """Iterations at which the solver stops in any case."""
        class_weight: ClassWeight = "none"
        """balanced: C of a class is inversely proportional to its count."""

        @classmethod
        def tiny(cls) -> Svc.Config:
            """The published machine on cheap features."""
            return cls(space=TINY_SPACE)

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
        """History: one row with `converged` (0 or 1), the number of support vectors and val's numbers.

        Raises:
            ValueError: images of fewer than 2 classes.
            Stopped: the sweep asked for it.
        """
        present = present_classes(train)
        if runtime.stopped():
            raise Stopped("asked to stop before the support vector machine was fitted")
        config, x_ND = self.config, x_ND.astype(np.float64)
        gamma = _scale_gamma(x_ND) if config.gamma == "scale" else config.gamma
        weight = "balanced" if config.class_weight == "balanced" else None
        machine = SVC(
            C=config.C, gamma=gamma, tol=config.tol, max_iter=config.max_iter, class_weight=weight,
            random_state=0,  # the solver uses none, but None would be drawn from the global state
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the history says so
            machine.fit(x_ND, train.labels)
        state = {
            "support": machine.support_vectors_.astype(np.float32),  # exact: the features are float32
            "dual_coef": machine.dual_coef_,
            "intercept": machine.intercept_,
            "num_support": machine.n_support_.astype(np.int64),
            "gamma": np.array([gamma]),
            "classes": present,
            "num_classes": np.array([train.num_classes]),
        }
        runtime.progress(1, 1, "support vector machine")
        numbers = {"converged": 1.0 - machine.fit_status_, "num_support": float(len(state["support"]))}
        return state, [{"epoch": 1.0, **numbers, **watch(state)}]

    def probs(self, state: State, x_ND: np.ndarray) -> np.ndarray:
        """Softmax of the decision function."""
        scores = [decision(state, x_ND[i : i + ROWS_AT_ONCE]) for i in range(0, len(x_ND), ROWS_AT_ONCE)]
        scores_NP = np.concatenate(scores) if scores else np.empty((0, len(state["classes"])))
        return over_all_classes(softmax(scores_NP, axis=1), state)


def decision(state: State, x_ND: np.ndarray) -> np.ndarray:
    """The decision function, float64 (N, P): one against rest, or (0, value) for two classes."""
    kernel_NS = _kernel(x_ND.astype(np.float64), state["support"].astype(np.float64), state["gamma"][0])
    if len(state["classes"]) == 2:
        value = kernel_NS @ state["dual_coef"][0] + state["intercept"][0]
        return np.stack([np.zeros_like(value), value], axis=1)
    return _one_against_rest(_pair_values(state, kernel_NS), len(state["classes"]))


def _scale_gamma(x_ND: np.ndarray) -> float:
    variance = float(x_ND.var())
    return 1.0 / (x_ND.shape[1] * variance) if variance else 1.0


def _kernel(x_ND: np.ndarray, y_SD: np.ndarray, gamma: float) -> np.ndarray:
    squares = (x_ND**2).sum(axis=1)[:, None] + (y_SD**2).sum(axis=1) - 2.0 * x_ND @ y_SD.T
    kernel_NS: np.ndarray = np.exp(-gamma * np.maximum(squares, 0.0))
    return kernel_NS


def _pair_values(state: State, kernel_NS: np.ndarray) -> list[np.ndarray]:
    """For each pair of classes i < j, (N,): positive where it votes for i (libsvm's layout of coefficients)."""
    ends = np.cumsum(state["num_support"])
    of_class = [slice(end - num, end) for end, num in zip(ends, state["num_support"], strict=True)]
    coef, values = state["dual_coef"], []
    for number, (i, j) in enumerate(combinations(range(len(ends)), 2)):
        for_i = kernel_NS[:, of_class[i]] @ coef[j - 1, of_class[i]]
        for_j = kernel_NS[:, of_class[j]] @ coef[i, of_class[j]]
        values.append(for_i + for_j + state["intercept"][number])
    return values


def _one_against_rest(values: list[np.ndarray], num_classes: int) -> np.ndarray:
    """Votes of the pairs, and the sum of their values squeezed into (-1/3, 1/3) to decide between equal votes."""
    votes = np.zeros((len(values[0]), num_classes))
    sums = np.zeros_like(votes)
    for (i, j), value in zip(combinations(range(num_classes), 2), values, strict=True):
        votes[:, i] += value >= 0
        votes[:, j] += value < 0
        sums[:, i] += value
        sums[:, j] -= value
    return votes + sums / (3.0 * (np.abs(sums) + 1.0))
