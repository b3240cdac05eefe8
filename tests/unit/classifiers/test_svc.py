"""scikit-learn's SVC as oracle of what is computed from the saved arrays; convergence; what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.svm import SVC

from medsynth_ray.classifiers.svc import Svc, decision
from medsynth_ray.errors import Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Features
from tests.unit.classifiers.flat import FlatRuntime, blobs, flat

COUNTS = {2: (40, 25), 3: (40, 30, 20), 4: (30, 20, 25, 15)}
VAL = {num: blobs((15,) * num, seed=2) for num in COUNTS}


def fitted(train: ImageSet, *, val: ImageSet | None = None, seed: int = 0, **settings: Any) -> Svc:
    found = Svc(Svc.Config(**settings))
    found.history = found.fit(train, val=train if val is None else val, seed=seed, runtime=FlatRuntime())  # type: ignore[attr-defined]
    return found


def test_the_defaults_are_the_published_ones() -> None:
    config = Svc.Config()
    assert (config.C, config.gamma, config.tol, config.max_iter) == (10.0, "scale", 0.01, 1000)
    assert config.space.config["model"].startswith("legacy_xception")
    assert config.needs() == (Features(config.space),)
    assert config.pretrained
    assert Svc.Config.tiny().random_init


@pytest.mark.parametrize("class_weight", ["none", "balanced"])
@pytest.mark.parametrize("num_classes", COUNTS)
def test_the_decision_function_is_scikit_learns(num_classes: int, class_weight: str) -> None:
    train, val = blobs(COUNTS[num_classes], seed=1), VAL[num_classes]
    weight = "balanced" if class_weight == "balanced" else None
    oracle = SVC(C=10, gamma="scale", tol=0.01, max_iter=1000, class_weight=weight, break_ties=True)
    oracle.fit(flat(train).astype(np.float64), train.labels)
    machine = fitted(train, class_weight=class_weight)
    expected = oracle.decision_function(flat(val).astype(np.float64))
    found = decision(machine._state, flat(val))
    np.testing.assert_allclose(found[:, 1] if num_classes == 2 else found, expected, rtol=0, atol=1e-6)
    predicted = machine.predict(val, runtime=FlatRuntime()).argmax(axis=1)
    np.testing.assert_array_equal(predicted, oracle.predict(flat(val).astype(np.float64)))


@pytest.mark.parametrize(("max_iter", "converged"), [(5, 0.0), (1000, 1.0)])
def test_the_history_says_whether_it_converged(max_iter: int, converged: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        machine = fitted(blobs(COUNTS[3], seed=1), val=VAL[3], max_iter=max_iter)
    (row,) = machine.history  # type: ignore[attr-defined]
    assert row["converged"] == converged
    assert row["num_support"] == len(machine._state["support"])
    hit = machine.predict(VAL[3], runtime=FlatRuntime()).argmax(axis=1) == VAL[3].labels
    assert row["val_balanced_accuracy"] == pytest.approx(hit.mean())


def test_standardised_features_are_what_it_reads() -> None:
    train = blobs(COUNTS[2], seed=1)
    x = flat(train).astype(np.float64)
    oracle = SVC(C=10, tol=0.01).fit((x - x.mean(axis=0)) / x.std(axis=0), train.labels)
    machine = fitted(train, standardise=True)
    assert len(machine._state["support"]) == len(oracle.support_)
    np.testing.assert_allclose(machine.embed(train, runtime=FlatRuntime()).std(axis=0), 1.0, atol=1e-5)


def test_the_seed_changes_nothing() -> None:
    first, other = (fitted(blobs(COUNTS[3], seed=1), seed=s).predict(VAL[3], runtime=FlatRuntime()) for s in (0, 1))
    np.testing.assert_array_equal(first, other)


def test_a_saved_machine_predicts_the_same_bits(tmp_path: Path) -> None:
    machine = fitted(blobs(COUNTS[3], seed=1))
    machine.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "classifier.safetensors"}
    loaded = Svc.load(tmp_path).predict(VAL[3], runtime=FlatRuntime())
    np.testing.assert_array_equal(loaded, machine.predict(VAL[3], runtime=FlatRuntime()))


def test_a_class_without_images_has_no_probability() -> None:
    probs = fitted(blobs((30, 0, 20), seed=1), val=VAL[3]).predict(VAL[3], runtime=FlatRuntime())
    assert probs.shape == (45, 3)
    assert probs[:, 1].max() == 0
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, atol=1e-6)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 2 classes, got those of \['b'\]"):
        fitted(blobs((0, 20, 0), seed=1))
    with pytest.raises(ValueError, match="was not fitted"):
        Svc(Svc.Config()).predict(VAL[2], runtime=FlatRuntime())
    with pytest.raises(ValidationError, match=r"gamma.*\n.*greater than 0"):
        Svc.Config(gamma=0.0)


def test_it_asks_whether_to_stop_before_it_starts() -> None:
    with pytest.raises(Stopped, match="before the support vector machine"):
        Svc(Svc.Config()).fit(VAL[2], val=VAL[2], seed=0, runtime=FlatRuntime(stop_after=0))
