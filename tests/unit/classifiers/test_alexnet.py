"""torch's own layers, log-softmax and loss as oracle; features are asked for once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medsynth_ray.classifiers.alexnet import Alexnet
from medsynth_ray.errors import ConfigError, MedsynthError, Stopped, WeightsMissing
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Features, Spec
from medsynth_ray.testing import LocalRuntime
from tests.unit.classifiers.flat import FlatRuntime, blobs, flat

TRAIN, VAL = blobs((40, 30, 20), seed=1), blobs((15, 15, 15), seed=2)


def fitted(*, seed: int = 0, runtime: LocalRuntime | None = None, **settings: Any) -> Alexnet:
    found = Alexnet(Alexnet.Config(**settings))
    found.history = found.fit(TRAIN, val=VAL, seed=seed, runtime=runtime or FlatRuntime())  # type: ignore[attr-defined]
    return found


def test_the_defaults_are_the_published_ones() -> None:
    config = Alexnet.Config()
    assert config.num_train_epochs == 5
    assert config.space == Spec(use="torchvision_alexnet", config={"weights": "alexnet_imagenet"})
    assert config.needs() == (Features(config.space),)
    assert config.pretrained
    assert Alexnet.Config.tiny().random_init


def test_it_is_a_log_softmax_layer_trained_on_the_likelihood() -> None:
    """As in the study's code: nn.Linear, nn.LogSoftmax, nn.NLLLoss and Adam, on the same mini-batches."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = nn.Sequential(nn.Linear(16, 3), nn.LogSoftmax(dim=1))
    x, labels = torch.from_numpy(flat(TRAIN)), torch.tensor(TRAIN.labels)
    optimiser, loss = torch.optim.Adam(network.parameters(), lr=1e-3), nn.NLLLoss()
    generator = torch.Generator().manual_seed(7)
    for _ in range(5):
        for rows in torch.randperm(90, generator=generator).split(32):
            optimiser.zero_grad()
            loss(network(x[rows]), labels[rows]).backward()
            optimiser.step()
    expected = network(torch.from_numpy(flat(VAL))).exp().detach().numpy()
    np.testing.assert_allclose(fitted(seed=7).predict(VAL, runtime=FlatRuntime()), expected, atol=1e-5)


def test_features_are_asked_for_once() -> None:
    runtime = FlatRuntime()
    history = fitted(runtime=runtime, num_train_epochs=20).history  # type: ignore[attr-defined]
    assert runtime.num_asked == 2
    assert [row["epoch"] for row in history] == list(range(2, 21, 2))
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert runtime.progress_seen[-1] == (20, 20, "epochs")


def test_the_seed_decides_every_bit() -> None:
    first, again, other = (fitted(seed=s).predict(VAL, runtime=FlatRuntime()) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_its_layer_reads_the_features_as_they_are(tmp_path: Path) -> None:
    found = fitted()
    found.save(tmp_path)
    loaded = Alexnet.load(tmp_path)
    np.testing.assert_array_equal(loaded.embed(VAL, runtime=FlatRuntime()), flat(VAL))
    np.testing.assert_array_equal(loaded.predict(VAL, runtime=FlatRuntime()), found.predict(VAL, runtime=FlatRuntime()))


@pytest.mark.parametrize(("class_weight", "expected"), [("none", [4 / 9, 3 / 9, 2 / 9]), ("balanced", [1 / 3] * 3)])
def test_features_that_tell_nothing_leave_the_weights_of_classes(class_weight: str, expected: list[float]) -> None:
    same = ImageSet(np.full_like(TRAIN.pixels, 7), TRAIN.labels, TRAIN.groups, TRAIN.ids, TRAIN.class_names)
    settings = {"num_train_epochs": 200, "train_batch_size": 90, "learning_rate": 0.05, "standardise": True}
    found = Alexnet(Alexnet.Config(class_weight=class_weight, **settings))
    found.fit(same, val=VAL, seed=0, runtime=FlatRuntime())
    np.testing.assert_allclose(found.predict(same, runtime=FlatRuntime())[0], expected, atol=1e-3)


def test_weights_are_there_or_random_ones_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDSYNTH_WEIGHTS", str(tmp_path / "none.yaml"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WeightsMissing, match="alexnet_imagenet"):
        fitted(runtime=LocalRuntime())
    with pytest.raises(ConfigError, match=r"give `weights` .* or random_init: true"):
        fitted(runtime=LocalRuntime(), space=Spec(use="torchvision_alexnet"))


def test_it_asks_in_each_epoch_whether_to_stop() -> None:
    with pytest.raises(Stopped, match="after 3 of 5 epochs"):
        fitted(runtime=FlatRuntime(stop_after=3))


def test_a_loss_that_is_not_finite_is_told() -> None:
    with pytest.raises(MedsynthError, match=r"diverged: the loss is (nan|inf) in epoch \d+; lower learning_rate"):
        fitted(learning_rate=1e36)
