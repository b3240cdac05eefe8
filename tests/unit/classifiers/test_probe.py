"""scikit-learn's logistic regression as oracle; what the seed does; what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from medsynth_ray.classifiers.probe import Probe
from medsynth_ray.errors import MedsynthError, Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Features, Spec
from medsynth_ray.testing import LocalRuntime
from tests.unit.classifiers.flat import FlatRuntime, blobs

TRAIN, VAL = blobs((80, 40, 20), seed=1), blobs((30, 30, 30), seed=2)


def fitted(*, seed: int = 0, train: ImageSet = TRAIN, runtime: LocalRuntime | None = None, **settings: Any) -> Probe:
    probe = Probe(Probe.Config(**settings))
    probe.fit(train, val=VAL, seed=seed, runtime=runtime or FlatRuntime())
    return probe


@pytest.mark.parametrize("class_weight", ["balanced", "none"])
@pytest.mark.parametrize("C", [0.003, 0.1])
def test_many_steps_reach_scikit_learns_optimum(class_weight: str, C: float) -> None:
    probe = fitted(C=C, class_weight=class_weight, max_train_steps=1500, train_batch_size=140, learning_rate=0.02)
    scaler = StandardScaler().fit(TRAIN.pixels.reshape(len(TRAIN), -1))
    oracle = LogisticRegression(C=C, class_weight="balanced" if class_weight == "balanced" else None, max_iter=2000)
    oracle.fit(scaler.transform(TRAIN.pixels.reshape(len(TRAIN), -1)), TRAIN.labels)
    expected = oracle.predict_proba(scaler.transform(VAL.pixels.reshape(len(VAL), -1)))
    np.testing.assert_allclose(probe.predict(VAL, runtime=FlatRuntime()), expected, atol=2e-3)


def test_it_learns_and_its_history_says_so() -> None:
    probe, runtime = Probe(Probe.Config(max_train_steps=50, train_batch_size=70)), FlatRuntime()
    history = probe.fit(TRAIN, val=VAL, seed=0, runtime=runtime)
    assert [h["epoch"] for h in history] == pytest.approx(np.arange(1, 11) * 2.5)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history[-1]["val_balanced_accuracy"] > 0.6
    predicted = probe.predict(VAL, runtime=runtime).argmax(axis=1)
    assert history[-1]["val_balanced_accuracy"] == pytest.approx(np.mean(predicted == VAL.labels))
    assert runtime.progress_seen[-1] == (50, 50, "probe steps")


def test_the_seed_moves_the_probabilities_a_little() -> None:
    first, again, other = (fitted(seed=s).predict(VAL, runtime=FlatRuntime()) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert 1e-5 < np.abs(first - other).max() < 0.1


def test_balanced_weights_help_the_rare_class() -> None:
    recall = {}
    for how in ("balanced", "none"):
        predicted = fitted(class_weight=how).predict(VAL, runtime=FlatRuntime()).argmax(axis=1)
        recall[how] = np.mean(predicted[VAL.labels == 2] == 2)
    assert recall["balanced"] > recall["none"] + 0.1


def test_a_class_without_images_gets_little_probability() -> None:
    probs = fitted(train=blobs((60, 40, 0), seed=1)).predict(VAL, runtime=FlatRuntime())
    assert probs.shape == (90, 3)
    assert probs[:, 2].max() < 0.3


def test_constant_features_do_no_harm() -> None:
    flat = ImageSet(
        np.full((6, 4, 4, 1), 7, np.uint8), np.arange(6) % 3, TRAIN.groups[:6], TRAIN.ids[:6], ("a", "b", "c")
    )
    np.testing.assert_allclose(fitted(train=flat).predict(flat, runtime=FlatRuntime()), 1 / 3, atol=0.02)


def test_a_saved_probe_predicts_the_same_bits(tmp_path: Path) -> None:
    probe = fitted(max_train_steps=9)
    probe.save(tmp_path)
    loaded = Probe.load(tmp_path)
    assert loaded.config == probe.config
    np.testing.assert_array_equal(loaded.predict(VAL, runtime=FlatRuntime()), probe.predict(VAL, runtime=FlatRuntime()))


def test_it_stops_between_rounds() -> None:
    with pytest.raises(Stopped, match="after 120 of 400 steps"):
        fitted(runtime=FlatRuntime(stop_after=3))


def test_a_loss_that_is_not_finite_is_told() -> None:
    with pytest.raises(MedsynthError, match="diverged: the probe's loss is nan by step"):
        fitted(learning_rate=1e30)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 training images, got 1"):
        fitted(train=TRAIN.take([0]))
    with pytest.raises(ValueError, match="was not fitted"):
        Probe(Probe.Config()).predict(VAL, runtime=FlatRuntime())


def test_inner_features_are_standardised_over_the_training_set() -> None:
    features = fitted(max_train_steps=1).embed(TRAIN, runtime=FlatRuntime())
    np.testing.assert_allclose(features.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(features.std(axis=0), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("space", "random_init"),
    [
        ({"use": "efficientnet_lite0"}, False),
        ({"use": "timm_model", "config": {"weights": "resnet50"}}, False),
        ({"use": "timm_model", "config": {"random_init": True}}, True),
    ],
)
def test_it_says_whether_its_features_are_pretrained(space: dict[str, Any], random_init: bool) -> None:
    config = Probe.Config(space=Spec(**space))
    assert (config.random_init, config.pretrained) == (random_init, not random_init)


def test_features_are_declared() -> None:
    assert Probe.Config(space="timm_model").needs() == (Features(Spec(use="timm_model")),)
