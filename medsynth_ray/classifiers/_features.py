"""A classifier of frozen features: features come from the runtime, which keeps them, so that a repeat costs seconds.

What was learnt is a dict of arrays: it is saved as safetensors, and probabilities are computed from it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

from medsynth_ray import registry
from medsynth_ray.classifiers._fitting import check_trainable, own_state, val_numbers
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, Features, History, Need, Runtime, Spec

NUM_ROUNDS = 10
"""Rows of the history, if there are as many steps or epochs."""
TINY_SPACE = Spec(use="timm_model", config={"model": "test_resnet", "random_init": True, "resolution": 32})
"""Features that cost next to nothing."""

State = dict[str, np.ndarray]


class FeatureConfig(ComponentConfig):
    """Which features a classifier reads."""

    space: Spec
    """The feature space."""
    standardise: bool = False
    """Scale every feature to mean 0 and standard deviation 1 over the training set."""

    @property
    def random_init(self) -> bool:
        """Whether the features are those of random layers."""
        return bool(getattr(registry.configure("spaces", self.space), "random_init", False))

    @property
    def pretrained(self) -> bool:
        """Whether the features are those of trained layers."""
        return not self.random_init

    def needs(self) -> tuple[Need, ...]:
        """The features."""
        return (Features(self.space),)


class FeatureClassifier(Component):
    """Base of classifiers of frozen features; `config` is a `FeatureConfig`."""

    config: FeatureConfig

    def __init__(self, config: FeatureConfig) -> None:
        """An unfitted classifier."""
        super().__init__(config)
        self._state: State = {}

    def learn(
        self,
        x_ND: np.ndarray,
        train: ImageSet,
        *,
        watch: Callable[[State], dict[str, float]],
        seed: int,
        runtime: Runtime,
    ) -> tuple[State, History]:
        """Arrays that `probs` reads, from float32 features; `watch` gives val's numbers of such arrays."""
        raise TypeError(f"{type(self).__name__} does not say how it learns")

    def probs(self, state: State, x_ND: np.ndarray) -> np.ndarray:
        """Class probabilities, float32 (N, K)."""
        raise TypeError(f"{type(self).__name__} does not say what it predicts")

    def last_inputs(self, state: State, x_ND: np.ndarray) -> np.ndarray:
        """What the last layer reads: the features themselves, where there is only one layer."""
        return x_ND

    def fit(self, train: ImageSet, *, val: ImageSet, seed: int, runtime: Runtime) -> History:
        """History: up to ten rows with epoch, and val_loss and val_balanced_accuracy where val has images.

        Raises:
            ValueError: fewer than 2 training images, or what this classifier cannot learn from.
            Stopped: the sweep asked for it.
            MedsynthError: the loss is not finite.
        """
        check_trainable(train)
        x_ND = runtime.features(train, self.config.space)
        val_ND = runtime.features(val, self.config.space)
        scale = _scale(x_ND) if self.config.standardise else {}
        val_ND = _scaled(scale, val_ND)

        def watch(state: State) -> dict[str, float]:
            return val_numbers(self.probs(state, val_ND), val)

        with own_state(runtime.num_threads, seed), threadpool_limits(runtime.num_threads, user_api="blas"):
            learnt, history = self.learn(_scaled(scale, x_ND), train, watch=watch, seed=seed, runtime=runtime)
        self._state = scale | learnt
        return history

    def predict(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """Probabilities from the features.

        Raises:
            ValueError: it was not fitted.
        """
        return self._of_features(self.probs, images, runtime)

    def embed(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """What the last layer reads, float32 (N, D).

        Raises:
            ValueError: it was not fitted.
        """
        return self._of_features(self.last_inputs, images, runtime)

    def _of_features(
        self, read: Callable[[State, np.ndarray], np.ndarray], images: ImageSet, runtime: Runtime
    ) -> np.ndarray:
        if not self._state:
            raise ValueError("this classifier was not fitted: call fit or load first")
        x_ND = _scaled(self._state, runtime.features(images, self.config.space))
        with own_state(runtime.num_threads), threadpool_limits(runtime.num_threads, user_api="blas"):
            return read(self._state, x_ND)

    def save(self, folder: Path) -> None:
        """Write config.json and classifier.safetensors.

        Raises:
            ValueError: it was not fitted.
        """
        if not self._state:
            raise ValueError("this classifier was not fitted: there is nothing to save")
        self.save_config(folder)
        save_file({name: np.ascontiguousarray(array) for name, array in self._state.items()}, _file(folder))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The classifier that was saved."""
        found = cls.from_config_of(folder)
        found._state = load_file(_file(folder))
        return found


def present_classes(train: ImageSet) -> np.ndarray:
    """Classes that have an image, int64 (P,).

    Raises:
        ValueError: there are fewer than 2.
    """
    present = np.flatnonzero(train.counts())
    if len(present) < 2:
        names = [train.class_names[c] for c in present]
        raise ValueError(f"this classifier needs training images of at least 2 classes, got those of {names}")
    return present


def over_all_classes(probs_NP: np.ndarray, state: State) -> np.ndarray:
    """Probabilities of `classes` among all `num_classes`, float32 (N, K): 0 for a class that train did not have."""
    out = np.zeros((len(probs_NP), int(state["num_classes"][0])), dtype=np.float32)
    out[:, state["classes"]] = probs_NP
    return out


def _file(folder: Path) -> Path:
    return folder / "classifier.safetensors"


def _scale(x_ND: np.ndarray) -> State:
    """Mean and standard deviation of each feature, float32 (D,); 1 where it is constant."""
    spread = x_ND.std(axis=0, dtype=np.float64)
    return {
        "mean": x_ND.mean(axis=0, dtype=np.float64).astype(np.float32),
        "std": np.where(spread > 1e-6, spread, 1.0).astype(np.float32),
    }


def _scaled(state: State, x_ND: np.ndarray) -> np.ndarray:
    """A float32 copy, standardised if `state` holds a scale."""
    x_ND = np.array(x_ND, dtype=np.float32)
    return (x_ND - state["mean"]) / state["std"] if "mean" in state else x_ND
