"""Local weights: loaded strictly or refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from medsynth_ray.errors import ConfigError, WeightsMissing
from medsynth_ray.protocols import Weights
from medsynth_ray.spaces.timm_model import TimmModel
from medsynth_ray.testing import LocalRuntime, toy_images

IMAGES = toy_images((2, 1), size_px=32)


def config(**settings: Any) -> TimmModel.Config:
    return TimmModel.Config(**{"model": "test_resnet", "resolution": 32, "batch_size": 2, **settings})


def checkpoint(path: Path, *, num_classes: int) -> torch.nn.Module:
    """A random network, saved to `path`."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = timm.create_model("test_resnet", num_classes=num_classes).eval()
    state = network.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state}, path)
    network.reset_classifier(0)
    return network


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("num_classes", [1000, 5, 0])
def test_features_are_those_of_the_saved_network(tmp_path: Path, name: str, num_classes: int) -> None:
    network = checkpoint(tmp_path / name, num_classes=num_classes)
    space = config(weights=str(tmp_path / name)).build()
    found = space.embed(IMAGES, runtime=LocalRuntime())
    with torch.inference_mode():
        expected = network(space.prepare(IMAGES.pixels.copy())).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path / "w.safetensors", num_classes=0)
    space = config(model="test_efficientnet", weights=str(tmp_path / "w.safetensors")).build()
    with pytest.raises(ConfigError, match=r"w\.safetensors' do not fit test_efficientnet"):
        space.embed(IMAGES, runtime=LocalRuntime())


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": pickle.PickleBuffer, "path": Path}, tmp_path / "w.pth")
    space = config(weights=str(tmp_path / "w.pth")).build()
    with pytest.raises(ConfigError, match="weights_only"):
        space.embed(IMAGES, runtime=LocalRuntime())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"nowhere\.safetensors"):
        config(weights=str(tmp_path / "nowhere.safetensors")).build().embed(IMAGES, runtime=LocalRuntime())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give `weights`"),
        ({"weights": "w.safetensors", "random_init": True}, "not both"),
        ({"model": "resnet51", "random_init": True}, "no model 'resnet51'; did you mean"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**settings)


def test_weights_are_declared() -> None:
    assert config(weights="w.pth").needs() == (Weights("w.pth"),)
    assert config(random_init=True).needs() == ()


@pytest.mark.parametrize(
    ("settings", "label"),
    [({"weights": "w.pth"}, "timm_test_resnet"), ({"random_init": True}, "timm_test_resnet_random")],
)
def test_label_says_which_network(settings: dict[str, Any], label: str) -> None:
    assert config(**settings).label == label
    assert "label" not in config(**settings).identity()


def test_a_vit_is_made_for_the_resolution() -> None:
    features = config(model="test_vit", random_init=True).build().embed(IMAGES, runtime=LocalRuntime())
    assert features.shape == (3, 64)
    assert features.std(axis=0).min() > 0
