"""The sweep's own real-only classifier as a feature space: what matters to it, and nothing else, is a distance here."""

from __future__ import annotations

import numpy as np

from medsynth_ray.errors import Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Baseline as BaselineNeed
from medsynth_ray.protocols import Component, ComponentConfig, HasFeatures, Need, Runtime

LEAST_PROBABILITY = 1e-7
"""Smaller class probabilities count as this."""


class Baseline(Component):
    """What the classifier's last layer reads; the logarithm of its class probabilities where it does not tell."""

    class Config(ComponentConfig):
        """No settings: the classifier is the sweep's."""

        def needs(self) -> tuple[Need, ...]:
            """The real-only classifier."""
            return (BaselineNeed(),)

    config: Config

    def embed(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """Features float32 (N, D), or (N, K) log probabilities."""
        if runtime.stopped():
            raise Stopped(f"asked to stop before {len(images)} images were embedded")
        classifier = runtime.baseline()
        if isinstance(classifier, HasFeatures):
            features = classifier.embed(images, runtime=runtime)
        else:
            features = np.log(np.maximum(classifier.predict(images, runtime=runtime), LEAST_PROBABILITY))
        runtime.progress(len(images), len(images), "images embedded")
        return features.astype(np.float32)
