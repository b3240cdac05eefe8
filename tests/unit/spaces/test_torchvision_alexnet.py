"""torchvision's own network as oracle of the features; weights that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torchvision.models import AlexNet
from torchvision.transforms.functional import normalize

from medsynth_ray.errors import ConfigError, WeightsMissing
from medsynth_ray.protocols import Weights
from medsynth_ray.spaces.torchvision_alexnet import TorchvisionAlexnet
from medsynth_ray.testing import LocalRuntime, toy_images

IMAGES = toy_images((2, 1), size_px=64)


@pytest.fixture(scope="module")
def network() -> AlexNet:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return AlexNet(num_classes=5).eval()


@pytest.fixture(scope="module", params=["w.safetensors", "w.pth"])
def checkpoint(
    network: AlexNet, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("weights") / request.param
    if path.suffix == ".pth":
        torch.save(network.state_dict(), path)
    else:
        save_file(network.state_dict(), path)
    yield path
    path.unlink()  # 230 MB


def config(**settings: Any) -> TorchvisionAlexnet.Config:
    return TorchvisionAlexnet.Config(**{"resolution": 64, "batch_size": 4, **settings})


def test_features_are_what_torchvisions_last_layer_reads(network: AlexNet, checkpoint: Path) -> None:
    """The checkpoint has 5 classes, and the last layer is not asked for."""
    found = config(weights=str(checkpoint)).build().embed(IMAGES, runtime=LocalRuntime())
    x_NCHW = torch.from_numpy(IMAGES.pixels.copy()).permute(0, 3, 1, 2) / 255
    x_NCHW = normalize(x_NCHW, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = network(x_NCHW).numpy()
    head: Any = network.classifier[6]
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    assert found.shape == (3, 4096)
    assert found.min() == 0
    np.testing.assert_allclose(found @ weight.T + bias, logits, rtol=1e-4, atol=1e-6)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"features.0.weight": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    space = config(weights=str(tmp_path / "w.safetensors")).build()
    with pytest.raises(ConfigError, match=r"w\.safetensors' do not fit torchvision's AlexNet: .*Missing key"):
        space.embed(IMAGES, runtime=LocalRuntime())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match=r"nowhere\.pth"):
        config(weights=str(tmp_path / "nowhere.pth")).build().embed(IMAGES, runtime=LocalRuntime())


@pytest.mark.parametrize("settings", [{}, {"weights": "w.pth", "random_init": True}])
def test_weights_or_random_must_be_said(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="give `weights` .* or random_init: true, not both or neither"):
        config(**settings)


@pytest.mark.parametrize(
    ("settings", "label", "needs"),
    [
        ({"weights": "w.pth"}, "torchvision_alexnet", (Weights("w.pth"),)),
        ({"random_init": True}, "torchvision_alexnet_random", ()),
    ],
)
def test_label_and_needs(settings: dict[str, Any], label: str, needs: tuple[Weights, ...]) -> None:
    assert (config(**settings).label, config(**settings).needs()) == (label, needs)


def test_random_features_do_not_collapse() -> None:
    images = toy_images((2, 2), size_px=16, channels=1)
    features = config(random_init=True).build().embed(images, runtime=LocalRuntime())
    assert 0.1 < features.std(axis=0).mean() < 100.0
    assert 0.3 < (features > 0).mean() < 0.7
