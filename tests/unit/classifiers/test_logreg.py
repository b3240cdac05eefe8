"""scikit-learn's one-against-rest classifier as oracle; convergence; what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from medsynth_ray.classifiers.logreg import Logreg
from medsynth_ray.errors import Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Features
from tests.unit.classifiers.flat import FlatRuntime, blobs, flat

COUNTS = {2: (40, 25), 3: (40, 30, 20)}
VAL = {num: blobs((15,) * num, seed=2) for num in COUNTS}


def fitted(train: ImageSet, *, val: ImageSet | None = None, seed: int = 0, **settings: Any) -> Logreg:
    found = Logreg(Logreg.Config(**settings))
    found.history = found.fit(train, val=train if val is None else val, seed=seed, runtime=FlatRuntime())  # type: ignore[attr-defined]
    return found


def test_the_defaults_are_the_published_ones() -> None:
    config = Logreg.Config()
    assert (config.C, config.l1_ratio, config.max_iter, config.standardise) == (10.0, 0.5, 300, False)
    assert config.space.config["model"].startswith("inception_v3")
    assert config.needs() == (Features(config.space),)
    assert config.pretrained


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("class_weight", ["none", "balanced"])
@pytest.mark.parametrize("num_classes", COUNTS)
def test_probabilities_are_scikit_learns(num_classes: int, class_weight: str) -> None:
    train, val = blobs(COUNTS[num_classes], seed=1), VAL[num_classes]
    weight = "balanced" if class_weight == "balanced" else None
    one = LogisticRegression(C=10, l1_ratio=0.5, solver="saga", max_iter=300, random_state=123, class_weight=weight)
    oracle = OneVsRestClassifier(one).fit(flat(train).astype(np.float64), train.labels)
    found = fitted(train, seed=123, class_weight=class_weight).predict(val, runtime=FlatRuntime())
    np.testing.assert_allclose(found, oracle.predict_proba(flat(val).astype(np.float64)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("max_iter", "converged"), [(3, 0.0), (1000, 1.0)])
def test_the_history_says_whether_it_converged(max_iter: int, converged: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fitted(blobs(COUNTS[3], seed=1), val=VAL[3], max_iter=max_iter, standardise=True, C=0.1)
    (row,) = model.history  # type: ignore[attr-defined]
    assert row["converged"] == converged
    assert (row["num_passes"] == 3) == (max_iter == 3)
    hit = model.predict(VAL[3], runtime=FlatRuntime()).argmax(axis=1) == VAL[3].labels
    assert row["val_balanced_accuracy"] == pytest.approx(hit.mean())


def test_seeds_differ_until_it_has_converged() -> None:
    spread = {}
    for max_iter in (3, 2000):
        settings = {"max_iter": max_iter, "standardise": True, "C": 0.1, "tol": 1e-6}
        first, other = (
            fitted(blobs(COUNTS[2], seed=1), seed=s, **settings).predict(VAL[2], runtime=FlatRuntime()) for s in (0, 1)
        )
        spread[max_iter] = np.abs(first - other).max()
    assert spread[3] > 1e-4
    assert spread[2000] < 1e-5


def test_a_large_seed_is_no_error() -> None:
    train = blobs(COUNTS[2], seed=1)
    first, again = (fitted(train, seed=2**62 + 5).predict(train, runtime=FlatRuntime()) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_far_from_all_classes_probabilities_still_sum_to_one() -> None:
    model = fitted(blobs(COUNTS[3], seed=1))
    model._state["bias"] = np.full(3, -1e4)
    np.testing.assert_allclose(model.predict(VAL[3], runtime=FlatRuntime()).sum(axis=1), 1.0, atol=1e-6)


def test_a_saved_model_predicts_the_same_bits(tmp_path: Path) -> None:
    model = fitted(blobs(COUNTS[3], seed=1))
    model.save(tmp_path)
    loaded = Logreg.load(tmp_path).predict(VAL[3], runtime=FlatRuntime())
    np.testing.assert_array_equal(loaded, model.predict(VAL[3], runtime=FlatRuntime()))


def test_a_class_without_images_has_no_probability() -> None:
    probs = fitted(blobs((30, 0, 20), seed=1), val=VAL[3]).predict(VAL[3], runtime=FlatRuntime())
    assert probs[:, 1].max() == 0
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, atol=1e-6)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 2 classes, got those of \['a'\]"):
        fitted(blobs((20, 0), seed=1))
    with pytest.raises(ValueError, match="nothing to save"):
        Logreg(Logreg.Config()).save(Path("nowhere"))


def test_it_asks_before_each_regression_whether_to_stop() -> None:
    with pytest.raises(Stopped, match="after 2 of 3 regressions"):
        Logreg(Logreg.Config()).fit(VAL[3], val=VAL[3], seed=0, runtime=FlatRuntime(stop_after=2))
