"""Predicts the class shares of its training set for every image: the floor that any classifier must be above."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
from safetensors.numpy import load_file, save_file

from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, History, Runtime


class Majority(Component):
    """The class shares of the training set, whatever the image."""

    class Config(ComponentConfig):
        """It has no settings."""

    def fit(self, train: ImageSet, *, val: ImageSet, seed: int, runtime: Runtime) -> History:
        """History: one entry with the largest class share of train.

        Raises:
            ValueError: fewer than 2 training images.
        """
        if len(train) < 2:
            raise ValueError(f"majority needs at least 2 training images, got {len(train)}")
        self._shares = (train.counts() / len(train)).astype(np.float32)
        runtime.progress(1, 1, "counting")
        return [{"epoch": 1.0, "largest_share": float(self._shares.max())}]

    def predict(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """The same row for every image."""
        return np.tile(self._shares, (len(images), 1))

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        self.save_config(folder)
        save_file({"shares": self._shares}, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        classifier = cls.from_config_of(folder)
        classifier._shares = load_file(folder / "model.safetensors")["shares"]
        return classifier
