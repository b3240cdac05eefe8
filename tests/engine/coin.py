"""A classifier that costs nothing, of known noise: probabilities are drawn by the seed and the training set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from medsynth_ray import registry
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, ComponentConfig, History, Runtime
from medsynth_ray.seeds import rng


class Coin(Component):
    """Draws every probability; equal arms draw the same ones."""

    class Config(ComponentConfig):
        """No settings."""

    def fit(self, train: ImageSet, *, val: ImageSet, seed: int, runtime: Runtime) -> History:
        self._drawn_by = [seed, train.fingerprint]
        return [{"epoch": 1.0}]

    def predict(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        probs = rng(*self._drawn_by, images.fingerprint).dirichlet(np.ones(images.num_classes), len(images))
        return probs.astype(np.float32)

    def save(self, folder: Path) -> None:
        self.save_config(folder)
        (folder / "drawn_by.txt").write_text("\n".join(map(str, self._drawn_by)))

    @classmethod
    def load(cls, folder: Path) -> Self:
        coin = cls.from_config_of(folder)
        seed, fingerprint = (folder / "drawn_by.txt").read_text().split("\n")
        coin._drawn_by = [int(seed), fingerprint]
        return coin


class _Point:
    def __init__(self, component: type[Component]) -> None:
        self.component, self.dist, self.value = component, None, "tests"

    def load(self) -> type[Component]:
        return self.component


def plug(monkeypatch: pytest.MonkeyPatch, **more: dict[str, type[Component]]) -> None:
    """Make the classifier `coin` known, and `more`: role -> name -> component."""
    roles: dict[str, dict[str, Any]] = {"classifiers": {"coin": Coin}, **more}
    points = {role: {name: _Point(c) for name, c in named.items()} for role, named in roles.items()}
    monkeypatch.setattr(registry, "_plugins", lambda role: points.get(role, {}))


def sections(**more: Any) -> dict[str, Any]:
    """Mix and confirm by the coin; `more` replaces whole sections."""
    return {
        "mix": {"ratios": [0.25], "classifier": "coin", "repeats": 2},
        "confirm": {"classifier": "coin", "repeats": 6, "learning_curve": []},
        **more,
    }
