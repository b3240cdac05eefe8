"""What a verdict compares: its name among the scores, its words, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from medsynth_ray.stats.primary import SPECIFICITIES, Primary
from medsynth_ray.stats.scores import scores


@pytest.mark.parametrize(
    ("primary", "key", "words"),
    [
        (Primary("balanced_accuracy"), "balanced_accuracy", "balanced accuracy"),
        (Primary("macro_f1"), "macro_f1", "macro F1"),
        (Primary("accuracy"), "accuracy", "accuracy"),
        (Primary("macro_auc"), "macro_auc", "macro AUC"),
        (Primary("sensitivity", positive=1), "sensitivity_at_0.90/1", "sensitivity at specificity 0.90 (class 1)"),
        (Primary("sensitivity", 0.99, 0), "sensitivity_at_0.99/0", "sensitivity at specificity 0.99 (class 0)"),
    ],
)
def test_key_and_words(primary, key, words):
    assert (primary.key, primary.words()) == (key, words)
    probs = np.random.default_rng(0).dirichlet([1, 1], 30)
    assert key in scores(probs, np.arange(30) % 2)


def test_a_class_is_called_by_its_name():
    assert Primary("sensitivity", 0.8, 2, "melanoma").words() == "sensitivity at specificity 0.80 (melanoma)"
    assert Primary("macro_auc", class_name="melanoma").words() == "macro AUC"


@pytest.mark.parametrize("specificity", SPECIFICITIES)
def test_every_specificity_is_among_the_scores(specificity):
    probs = np.random.default_rng(0).dirichlet([1, 1, 1], 30)
    assert Primary("sensitivity", specificity, 2).key in scores(probs, np.arange(30) % 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "auc"}, "metric must be one of balanced_accuracy, .*, got 'auc'"),
        ({"name": "sensitivity", "positive": 0, "specificity": 0.85}, r"one of \(0.8, 0.9, 0.95, 0.99\), got 0.85"),
        ({"name": "sensitivity"}, "needs positive, the index of a class; got None"),
        ({"name": "sensitivity", "positive": -1}, "got -1"),
        ({"name": "macro_auc", "positive": 1}, "positive belongs to sensitivity, macro_auc takes none; got 1"),
    ],
)
def test_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Primary(**given)
