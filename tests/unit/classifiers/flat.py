"""Features that are the pixels themselves, and blobs of them: no network is needed to test what reads features."""

from __future__ import annotations

import numpy as np

from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Spec
from medsynth_ray.testing import LocalRuntime

SPACE = Spec(use="efficientnet_lite0")
"""Never asked for."""


class FlatRuntime(LocalRuntime):
    """Features are the pixels, scaled by 100; it counts how often it was asked."""

    num_asked = 0

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        self.num_asked += 1
        return flat(images)


def flat(images: ImageSet) -> np.ndarray:
    return images.pixels.reshape(len(images), -1).astype(np.float32) * 100


def blobs(counts: tuple[int, ...], *, seed: int, apart: float = 20.0) -> ImageSet:
    """Noise around one mean for each class: 4 x 4 gray pixels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = np.random.default_rng(99).normal(128, apart, (len(counts), 4, 4, 1))
    pixels = np.clip(centres[labels] + rng.normal(0, 30, (len(labels), 4, 4, 1)), 0, 255).astype(np.uint8)
    ids = np.array([f"{seed}/{i}" for i in range(len(labels))])
    return ImageSet(pixels, labels, ids, ids, tuple("abcdef"[: len(counts)]))
