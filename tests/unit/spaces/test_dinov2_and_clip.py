"""Local weights of DINOv2 and CLIP: loaded strictly, at the resolution of the space, by the class token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Weights
from medsynth_ray.spaces.clip import Clip
from medsynth_ray.spaces.dinov2 import Dinov2
from medsynth_ray.testing import LocalRuntime, toy_images

IMAGES = toy_images((2, 1), size_px=64)


def random_network(name: str, **options: Any) -> torch.nn.Module:
    """A seeded network whose layers all take part."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = timm.create_model(name, **options).eval()
        for key, value in network.state_dict().items():
            if key.endswith("gamma"):
                value.fill_(1.0)
    return network


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Checkpoints as timm's repositories hold them: DINOv2 at its own 518 px, CLIP with its projection."""
    folder = tmp_path_factory.mktemp("weights")
    save_file(random_network("vit_small_patch14_dinov2", num_classes=0).state_dict(), folder / "dinov2.safetensors")
    clip = random_network("vit_base_patch32_clip_quickgelu_224", num_classes=512)
    save_file(clip.state_dict(), folder / "clip.safetensors")
    yield folder
    for path in folder.iterdir():
        path.unlink()


def test_dinov2_is_the_class_token_with_its_positions_resampled(saved: Path) -> None:
    path = saved / "dinov2.safetensors"
    space = Dinov2.Config(weights=str(path), resolution=70, batch_size=3).build()
    found = space.embed(IMAGES, runtime=LocalRuntime())
    expected = random_network("vit_small_patch14_dinov2", num_classes=0)
    expected.set_input_size(img_size=(70, 70))  # type: ignore[operator]
    with torch.inference_mode():
        tokens = expected.forward_features(space.prepare(IMAGES.pixels.copy()))  # type: ignore[operator]
    assert tokens.shape == (3, 1 + 25, 384)
    np.testing.assert_allclose(found, tokens[:, 0].numpy(), rtol=1e-3, atol=1e-4)
    assert found.std(axis=0).mean() > 1e-3


def test_clip_is_the_projected_class_token(saved: Path) -> None:
    path = saved / "clip.safetensors"
    space = Clip.Config(weights=str(path), batch_size=3).build()
    found = space.embed(IMAGES, runtime=LocalRuntime())
    network = random_network("vit_base_patch32_clip_quickgelu_224", num_classes=512)
    with torch.inference_mode():
        tokens = network.forward_features(space.prepare(IMAGES.pixels.copy()))  # type: ignore[operator]
    state = load_file(path)
    expected = (tokens[:, 0] @ state["head.weight"].T + state["head.bias"]).numpy()
    assert found.shape == (3, 512)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_clip_uses_the_activation_it_was_trained_with(saved: Path) -> None:
    network = Clip.Config(weights=str(saved / "clip.safetensors")).build().make_network(LocalRuntime())
    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(network.blocks[0].mlp.act(x), x * torch.sigmoid(1.702 * x))  # type: ignore[index, union-attr, operator]


def test_clip_without_its_projection_is_refused(saved: Path, tmp_path: Path) -> None:
    state = {k: v for k, v in load_file(saved / "clip.safetensors").items() if not k.startswith("head.")}
    save_file(state, tmp_path / "tower.safetensors")
    space = Clip.Config(weights=str(tmp_path / "tower.safetensors")).build()
    with pytest.raises(ConfigError, match="0 outputs, expected 512"):
        space.embed(IMAGES, runtime=LocalRuntime())


def test_clip_weights_are_no_dinov2(saved: Path) -> None:
    space = Dinov2.Config(weights=str(saved / "clip.safetensors"), resolution=28).build()
    with pytest.raises(ConfigError, match=r"clip\.safetensors' do not fit vit_small_patch14_dinov2"):
        space.embed(IMAGES, runtime=LocalRuntime())


@pytest.mark.parametrize(
    ("config", "label"),
    [
        (Dinov2.Config(weights="dinov2_vits14"), "dinov2_vits14"),
        (Dinov2.Config(weights="dinov2_vits14", resolution=518), "dinov2_vits14_518px"),
        (Dinov2.Config(random_init=True), "dinov2_vits14_random"),
        (Clip.Config(weights="clip_vit_b32"), "clip"),
        (Clip.Config(random_init=True), "clip_random"),
    ],
)
def test_label_and_needs_say_what_the_numbers_are_of(config: Dinov2.Config | Clip.Config, label: str) -> None:
    assert config.label == label
    assert config.needs() == (() if config.weights is None else (Weights(config.weights),))
    assert "weights" not in config.identity()


@pytest.mark.parametrize("settings", [{}, {"weights": "w.safetensors", "random_init": True}])
@pytest.mark.parametrize("space", [Dinov2, Clip])
def test_weights_or_random_must_be_said(space: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="random_init: true"):
        space.Config(**settings)


@pytest.mark.parametrize(
    ("space", "resolution", "allowed"), [(Dinov2, 230, "multiple of 14"), (Clip, 336, "should be 224")]
)
def test_a_resolution_that_does_not_fit_is_refused(space: Any, resolution: int, allowed: str) -> None:
    with pytest.raises(ValidationError, match=allowed):
        space.Config(random_init=True, resolution=resolution)
