"""Layers, penalty and what the last layer reads, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medsynth_ray.classifiers.ffnn import Ffnn
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Features
from tests.unit.classifiers.flat import FlatRuntime, blobs

TRAIN, VAL = blobs((40, 30, 20), seed=1), blobs((15, 15, 15), seed=2)


def fitted(train: ImageSet = TRAIN, **settings: Any) -> Ffnn:
    found = Ffnn(Ffnn.Config(**{"hidden": (16, 16), "num_train_epochs": 20, "standardise": True, **settings}))
    found.history = found.fit(train, val=VAL, seed=0, runtime=FlatRuntime())  # type: ignore[attr-defined]
    return found


def test_the_defaults_are_the_published_ones() -> None:
    config = Ffnn.Config()
    assert (config.hidden, config.l2, config.learning_rate) == ((256, 256, 256, 256), 0.02, 1e-3)
    assert (config.train_batch_size, config.num_train_epochs, config.standardise) == (64, 300, False)
    assert config.space.config["model"].startswith("inception_resnet_v2")
    assert config.needs() == (Features(config.space),)
    assert config.pretrained
    assert Ffnn.Config.tiny().random_init


def test_layers_begin_as_in_keras() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = Ffnn(Ffnn.Config(hidden=(256, 128))).make_layers(64, 3)
    assert [tuple(layer.weight.shape) for layer in layers] == [(256, 64), (128, 256), (3, 128)]
    limits = [(6 / (layer.in_features + layer.out_features)) ** 0.5 for layer in layers]
    largest = [float(layer.weight.detach().abs().max()) for layer in layers]
    assert all(0.9 * limit < top <= limit for top, limit in zip(largest, limits, strict=True))
    assert not any(layer.bias.any() for layer in layers)


def test_the_penalty_is_of_hidden_weights_alone() -> None:
    ffnn = Ffnn(Ffnn.Config(hidden=(2,), l2=0.5))
    layers = ffnn.make_layers(3, 2)
    for layer in layers:
        torch.nn.init.constant_(layer.weight, 2.0)
    with torch.no_grad():
        penalty = float(ffnn.penalty(layers))
    assert penalty == 0.5 * 6 * 4.0


def test_the_last_layer_reads_what_embed_gives() -> None:
    found = fitted()
    hidden = found.embed(VAL, runtime=FlatRuntime())
    assert hidden.shape == (45, 16)
    assert hidden.min() == 0
    logits = hidden @ found._state["weight_2"].T + found._state["bias_2"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.predict(VAL, runtime=FlatRuntime()), expected, atol=1e-5)


def test_it_learns_and_its_history_says_so() -> None:
    history = fitted(num_train_epochs=60, train_batch_size=16).history  # type: ignore[attr-defined]
    assert [row["epoch"] for row in history] == list(range(6, 61, 6))
    assert history[-1]["val_balanced_accuracy"] > 0.6
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize(("l2", "constant"), [(0.0, False), (10.0, True)])
def test_a_large_penalty_leaves_nothing_but_class_shares(l2: float, constant: bool) -> None:
    probs = fitted(l2=l2, num_train_epochs=300, learning_rate=5e-3).predict(VAL, runtime=FlatRuntime())
    assert (np.ptp(probs, axis=0).max() < 1e-3) == constant
    if constant:
        np.testing.assert_allclose(probs[0], np.array([40, 30, 20]) / 90, atol=0.05)


def test_without_hidden_layers_it_is_one_layer() -> None:
    found = fitted(hidden=())
    assert set(found._state) == {"mean", "std", "weight_0", "bias_0"}
    assert found.embed(VAL, runtime=FlatRuntime()).shape == (45, 16)
