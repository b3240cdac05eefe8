"""What holds for components that look at image sets: gates, metrics, feature spaces, classifiers."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from medsynth_ray.contracts import _runs as runs
from medsynth_ray.contracts._base import RunContract, assert_plain_files, bytes_of
from medsynth_ray.errors import Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Classifier, ComponentConfig, HasFeatures, Runtime
from medsynth_ray.testing import LocalRuntime, toy_images


class GateContract(RunContract):
    """What every gate must do."""

    role = "gates"

    @pytest.fixture
    def runtime(self, config: ComponentConfig) -> Any:
        """A runtime with a real-only classifier and a fitted generator, where the gate needs them."""
        with closing(runs.offering(config, self.size_px)) as runtime:
            yield runtime

    def test_judgement_is_well_formed(self, config: ComponentConfig, runtime: LocalRuntime) -> None:
        """A mask over the pool, finite numbers, a reason for a rejection, flagged rows that exist; inputs stay."""
        shown = toy_images(size_px=self.size_px)
        unseen = toy_images(size_px=self.size_px, seed=1, prefix="unseen")
        pool = runs.toy_pool((14, 10), size_px=self.size_px)
        before = [bytes_of(images) for images in (pool.images, shown, unseen)]
        result = config.build().judge(pool, shown=shown, unseen=unseen, seed=3, runtime=runtime)
        assert result.keep.shape == (len(pool),)
        assert result.keep.dtype == bool
        assert bool(result.passed) or result.reason
        assert all(np.isfinite(value) for value in result.numbers.values())
        assert all(0 <= pair.row < len(pool) and pair.real_id in shown.ids for pair in result.flagged)
        assert [bytes_of(images) for images in (pool.images, shown, unseen)] == before


class MetricContract(RunContract):
    """What every metric must do."""

    role = "metrics"
    num_rows: ClassVar[int] = 60
    dim: ClassVar[int] = 8

    def _features(self, shift: float = 0.0, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).normal(shift, 1.0, (self.num_rows, self.dim)).astype(np.float32)

    def test_a_set_is_near_itself(self, config: ComponentConfig) -> None:
        """A set compared with itself is near 0 (a distance) and in any case better than with a shifted one."""
        metric, x = config.build(), self._features()
        same = metric.measure(x, x.copy(), space="toy", seed=3).value
        shifted = metric.measure(x, self._features(shift=3.0, seed=1), space="toy", seed=3).value
        assert same < shifted if metric.lower_is_better else same > shifted
        if metric.lower_is_better:
            assert abs(same) < 0.05 * abs(shifted)

    def test_number_is_named_and_bounded(self, config: ComponentConfig) -> None:
        """The name holds the space; the interval, if any, is ordered; all finite; inputs stay."""
        x, y = self._features(), self._features(shift=0.3, seed=1)
        before = runs.digest(x, y)
        measured = config.build().measure(x, y, space="toy", seed=3)
        assert "toy" in measured.name
        assert np.isfinite([measured.value, *measured.details.values()]).all()
        if measured.low is not None and measured.high is not None:
            assert measured.low <= measured.high
        assert runs.digest(x, y) == before

    @pytest.mark.parametrize("fault", ["too few", "other dimension", "not finite"])
    def test_unusable_features_are_refused(self, config: ComponentConfig, fault: str) -> None:
        """One row, a clash of dimensions and NaN are ValueErrors."""
        x, y = self._features(), self._features(seed=1)
        y[0, 0] = np.nan if fault == "not finite" else y[0, 0]
        bad = {"too few": y[:1], "other dimension": y[:, :-1], "not finite": y}[fault]
        with pytest.raises(ValueError, match=r"\S"):
            config.build().measure(x, bad, space="toy", seed=3)


class _Brightness:
    """A classifier that needs no fit: the brighter an image, the more likely the second class."""

    def predict(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        share = images.pixels.mean(axis=(1, 2, 3)) / 255.0
        return np.stack([1.0 - share, share], axis=1).astype(np.float32)


_BRIGHTNESS = cast(Classifier, _Brightness())


class FeatureSpaceContract(RunContract):
    """What every feature space must do."""

    role = "spaces"
    tolerance: ClassVar[float] = 1e-4
    """Largest difference that the rest of a batch may make, relative to the largest feature."""

    @pytest.fixture
    def runtime(self) -> Any:
        """A runtime whose real-only classifier tells bright images from dark ones."""
        with closing(LocalRuntime(baseline=_BRIGHTNESS)) as runtime:
            yield runtime

    @pytest.mark.parametrize("channels", [1, 3])
    def test_features_are_finite(self, config: ComponentConfig, runtime: LocalRuntime, channels: int) -> None:
        """float32 (N, D), finite, not all equal; inputs stay; progress is told."""
        images = toy_images((3, 2), size_px=self.size_px, channels=channels)
        before = bytes_of(images)
        features = config.build().embed(images, runtime=runtime)
        assert features.ndim == 2
        assert (len(features), features.dtype) == (5, np.float32)
        assert np.isfinite(features).all()
        assert np.ptp(features, axis=0).max() > 0
        assert bytes_of(images) == before
        assert runtime.progress_seen

    def test_row_depends_on_its_image_alone(self, config: ComponentConfig, runtime: LocalRuntime) -> None:
        """Embedded in another order and number, each image has the same features."""
        images, space = toy_images((3, 2), size_px=self.size_px), config.build()
        whole = space.embed(images, runtime=runtime)
        some = np.array([4, 1])
        difference = np.abs(space.embed(images.take(some), runtime=runtime) - whole[some]).max()
        assert difference <= self.tolerance * np.abs(whole).max()

    def test_embedding_stops_when_asked(self, config: ComponentConfig) -> None:
        """A long embedding can be stopped."""
        with closing(LocalRuntime(stop_after=0, baseline=_BRIGHTNESS)) as stopping, pytest.raises(Stopped):
            config.build().embed(toy_images(size_px=self.size_px), runtime=stopping)


class ClassifierContract(RunContract):
    """What every classifier must do."""

    role = "classifiers"

    def _fitted(self, config: ComponentConfig, runtime: LocalRuntime, *, val_seed: int = 1) -> tuple[Any, ImageSet]:
        val = toy_images((4, 4), size_px=self.size_px, seed=val_seed, prefix="val")
        classifier = config.build()
        self.history = classifier.fit(toy_images(size_px=self.size_px), val=val, seed=3, runtime=runtime)
        return classifier, toy_images((5, 5), size_px=self.size_px, seed=9, prefix="test")

    def test_probabilities_sum_to_one(self, config: ComponentConfig, runtime: LocalRuntime) -> None:
        """float32 (N, K) in [0, 1], rows sum to 1, a row depends on its image; the history is finite numbers."""
        classifier, test = self._fitted(config, runtime)
        before = bytes_of(test)
        probabilities = classifier.predict(test, runtime=runtime)
        assert (probabilities.shape, probabilities.dtype) == ((10, 2), np.float32)
        assert np.allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
        assert probabilities.min() >= 0
        assert np.allclose(classifier.predict(test.take([7]), runtime=runtime), probabilities[7], atol=1e-4)
        assert all(np.isfinite(list(row.values())).all() for row in self.history)
        assert bytes_of(test) == before

    def test_saved_and_loaded_predicts_the_same(
        self, config: ComponentConfig, runtime: LocalRuntime, tmp_path: Path
    ) -> None:
        """The folder holds JSON and safetensors only; what is loaded predicts the same bytes."""
        classifier, test = self._fitted(config, runtime)
        classifier.save(tmp_path / "saved")
        assert_plain_files(tmp_path / "saved")
        loaded = config.component.load(tmp_path / "saved")  # type: ignore[attr-defined]
        expected = classifier.predict(test, runtime=runtime)
        assert runs.digest(loaded.predict(test, runtime=runtime)) == runs.digest(expected)

    def test_inner_features_are_of_one_image(
        self, config: ComponentConfig, runtime: LocalRuntime, tmp_path: Path
    ) -> None:
        """Where it has inner features: float32 (N, D), finite, of each image alone, the same when saved and loaded."""
        classifier, test = self._fitted(config, runtime)
        if not issubclass(config.component, HasFeatures):
            pytest.skip("it has no inner features")
        before = bytes_of(test)
        features = classifier.embed(test, runtime=runtime)
        assert (features.ndim, len(features)) == (2, len(test))
        assert features.dtype == np.float32
        assert np.isfinite(features).all()
        some = np.array([7, 2])
        difference = np.abs(classifier.embed(test.take(some), runtime=runtime) - features[some]).max()
        assert difference <= 1e-4 * np.abs(features).max()
        classifier.save(tmp_path / "saved")
        loaded = config.component.load(tmp_path / "saved")  # type: ignore[attr-defined]
        assert runs.digest(loaded.embed(test, runtime=runtime)) == runs.digest(features)
        assert bytes_of(test) == before

    def test_val_is_only_watched(self, config: ComponentConfig, runtime: LocalRuntime) -> None:
        """Another val, the same predictions."""
        predictions = []
        for val_seed in (1, 2):
            classifier, test = self._fitted(config, runtime, val_seed=val_seed)
            predictions.append(runs.digest(classifier.predict(test, runtime=runtime)))
        assert predictions[0] == predictions[1]

    def test_fit_stops_when_asked(self, config: ComponentConfig, runtime: LocalRuntime) -> None:
        """A fit that reports steps can be stopped; every fit tells how far it is."""
        self._fitted(config, runtime)
        assert runtime.reports or runtime.progress_seen
        if len(runtime.reports) > 1:
            with closing(LocalRuntime(stop_after=0)) as stopping, pytest.raises(Stopped):
                self._fitted(config, stopping)
