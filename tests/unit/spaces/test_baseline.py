"""The classifier's own features where it has them, else the logarithm of its probabilities."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Baseline as BaselineNeed
from medsynth_ray.protocols import Classifier
from medsynth_ray.spaces.baseline import Baseline
from medsynth_ray.testing import LocalRuntime, toy_images

IMAGES = toy_images((2, 1))


class Predicts:
    def predict(self, images: ImageSet, *, runtime: Any) -> np.ndarray:
        return np.array([[1.0, 0.0], [0.25, 0.75], [0.5, 0.5]], dtype=np.float32)


class Embeds(Predicts):
    def embed(self, images: ImageSet, *, runtime: Any) -> np.ndarray:
        return images.pixels.reshape(len(images), -1).astype(np.float64)


def embedded(classifier: Predicts) -> np.ndarray:
    runtime = LocalRuntime(baseline=cast(Classifier, classifier))
    return Baseline.Config().build().embed(IMAGES, runtime=runtime)  # type: ignore[no-any-return]


def test_probabilities_become_logarithms_that_end_at_1e_7() -> None:
    found = embedded(Predicts())
    assert (found.shape, found.dtype) == ((3, 2), np.float32)
    np.testing.assert_allclose(found, np.log([[1.0, 1e-7], [0.25, 0.75], [0.5, 0.5]]), rtol=1e-6)


def test_a_classifier_with_features_gives_them() -> None:
    found = embedded(Embeds())
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, IMAGES.pixels.reshape(3, -1))


def test_the_classifier_is_declared() -> None:
    assert Baseline.Config().needs() == (BaselineNeed(),)


def test_a_runtime_without_a_classifier_is_told() -> None:
    with pytest.raises(AssertionError, match="gave no baseline"):
        Baseline.Config().build().embed(IMAGES, runtime=LocalRuntime())
