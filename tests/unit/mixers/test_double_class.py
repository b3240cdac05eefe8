"""Doubling classes: which, by how much, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medsynth_ray import registry
from medsynth_ray.contracts._runs import toy_pool
from medsynth_ray.errors import ConfigError
from medsynth_ray.mixers.double_class import DoubleClass
from medsynth_ray.protocols import Spec
from medsynth_ray.testing import toy_images


def mixer(classes: Any = "minority") -> DoubleClass:
    return DoubleClass(DoubleClass.Config(classes=classes))


@pytest.mark.parametrize(
    ("classes", "counts", "demand"),
    [
        ("minority", (9, 4, 7), [0, 4, 0]),
        ("minority", (4, 9, 4), [4, 0, 4]),
        ("minority", (9, 0, 7), [0, 0, 7]),
        ("minority", (0, 0), [0, 0]),
        ("minority", (), []),
        ("all", (9, 4, 0), [9, 4, 0]),
        ((0,), (9, 4, 7), [9, 0, 0]),
        ((2, 1), (9, 4, 7), [0, 4, 7]),
    ],
)
def test_demand(classes: Any, counts: tuple[int, ...], demand: list[int]) -> None:
    assert mixer(classes).demand(np.array(counts, dtype=np.int64), ratio=None).tolist() == demand


@pytest.mark.parametrize(("classes", "counts"), [("minority", [9, 8]), ("all", [18, 8]), ((0,), [18, 4])])
def test_chosen_classes_are_twice_as_large(classes: Any, counts: list[int]) -> None:
    real = toy_images((9, 4))
    mixed = mixer(classes).mix(real, toy_pool((20, 20)), ratio=None, seed=0)
    assert mixed.counts().tolist() == counts
    assert mixed.take(np.arange(13)).fingerprint == real.fingerprint


def test_a_list_of_labels_may_come_from_a_sweep_file() -> None:
    config = registry.configure("mixers", Spec(use="double_class", config={"classes": [1]}))
    assert config.build().demand(np.array([3, 5]), ratio=None).tolist() == [0, 5]


@pytest.mark.parametrize("wrong", [[], [-1], [1, 1], "melanoma"])
def test_a_wrong_choice_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"mixers.double_class.classes: "):
        registry.configure("mixers", Spec(use="double_class", config={"classes": wrong}))


def test_a_label_that_the_data_do_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="classes must be labels below 2, got 2"):
        mixer((0, 2)).demand(np.array([3, 5]), ratio=None)


def test_it_takes_no_ratio() -> None:
    with pytest.raises(ValueError, match="double_class: takes no ratio"):
        mixer().demand(np.array([3]), ratio=0.5)
