"""ResNet-50 and the ViT as published: settings, weights that must be there, how the learning rate falls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from medsynth_ray.classifiers._augment import Augment
from medsynth_ray.classifiers._network import _schedule
from medsynth_ray.classifiers.resnet50 import Resnet50
from medsynth_ray.classifiers.vit import Vit
from medsynth_ray.errors import WeightsMissing
from medsynth_ray.protocols import Weights
from medsynth_ray.testing import LocalRuntime, toy_images

TRAIN = toy_images((10, 6), size_px=32)


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (Resnet50.Config(), {"model": "resnet50", "learning_rate": 1e-3, "resolution": None}),
        (
            Vit.Config(),
            {
                "model": "vit_base_patch16_224",
                "learning_rate": 2e-5,
                "train_batch_size": 32,
                "weight_decay": 0.01,
                "schedule": "linear",
                "resolution": 224,
            },
        ),
    ],
)
def test_the_defaults_are_the_published_ones(config: Any, settings: dict[str, Any]) -> None:
    assert {name: getattr(config, name) for name in settings} == settings
    assert (config.freeze_up_to, config.class_weight, config.augment) == (0, "none", Augment.none())
    assert config.needs() == (Weights(config.model),)


@pytest.mark.parametrize("kind", [Resnet50, Vit])
def test_random_layers_must_be_asked_for(kind: Any) -> None:
    random = kind.Config(random_init=True)
    assert (random.weights, random.needs(), random.pretrained, random.random_init) == (None, (), False, True)
    assert (kind.Config().pretrained, kind.Config().random_init) == (True, False)
    with pytest.raises(ValidationError, match="not both or neither; got weights=None, random_init=False"):
        kind.Config(weights=None)
    with pytest.raises(ValidationError, match="got weights='w.pth', random_init=True"):
        kind.Config(weights="w.pth", random_init=True)


@pytest.mark.parametrize("kind", [Resnet50, Vit])
def test_random_layers_are_not_frozen(kind: Any) -> None:
    assert kind.Config(freeze_up_to=2).freeze_up_to == 2
    with pytest.raises(ValidationError, match="freeze_up_to: 2 would freeze random layers; give `weights`"):
        kind.Config(random_init=True, freeze_up_to=2)


@pytest.mark.parametrize(("model", "patch"), [("vit_base_patch16_224", 16), ("vit_base_patch32_224", 32)])
def test_a_side_that_is_not_whole_patches_is_refused(model: str, patch: int) -> None:
    assert Vit.Config(model=model, resolution=7 * patch).resolution == 7 * patch
    with pytest.raises(ValidationError, match=f"multiple of {model}'s patch, {patch}, got {7 * patch + 8}"):
        Vit.Config(model=model, resolution=7 * patch + 8)


@pytest.mark.parametrize("kind", [Resnet50, Vit])
def test_a_missing_file_is_named(kind: Any, tmp_path: Path) -> None:
    found = kind(kind.Config(weights=str(tmp_path / "nowhere.safetensors")))
    with pytest.raises(WeightsMissing, match=r"nowhere\.safetensors"):
        found.fit(TRAIN, val=TRAIN, seed=0, runtime=LocalRuntime())


def test_a_vit_starts_from_local_weights_at_another_size(tmp_path: Path) -> None:
    """With a learning rate that moves nothing, its blocks are the checkpoint's; positions are interpolated."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        save_file(timm.create_model("test_vit", num_classes=10).state_dict(), tmp_path / "w.safetensors")
    config = Vit.Config(
        model="test_vit", weights=str(tmp_path / "w.safetensors"), resolution=64, learning_rate=1e-12, weight_decay=0.0,
        max_train_steps=1, train_batch_size=8,
    )  # fmt: skip
    found = Vit(config)
    found.fit(TRAIN, val=TRAIN, seed=0, runtime=LocalRuntime())
    found.save(tmp_path / "saved")
    saved, given = load_file(tmp_path / "saved" / "classifier.safetensors"), load_file(tmp_path / "w.safetensors")
    torch.testing.assert_close(saved["2.blocks.0.attn.qkv.weight"], given["blocks.0.attn.qkv.weight"])
    assert saved["2.pos_embed"].shape[1] == 4 * 4 + 1 < given["pos_embed"].shape[1]
    loaded = Vit.load(tmp_path / "saved").predict(TRAIN, runtime=LocalRuntime())
    np.testing.assert_array_equal(loaded, found.predict(TRAIN, runtime=LocalRuntime()))


def test_a_linear_schedule_falls_by_equal_steps() -> None:
    """transformers' get_linear_schedule_with_warmup one step on: no step is spent on a learning rate of 0."""
    rates = [_schedule(step, 100, 0.1, "linear") for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert rates[9:] == pytest.approx(1.0 - np.arange(91) / 91)


def test_a_constant_schedule_stays_after_warm_up() -> None:
    assert [_schedule(step, 20, 0.1, "constant") for step in range(20)] == [0.5] + [1.0] * 19
