"""Training, weights, stems, and the faults that a run must name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from medsynth_ray.classifiers._augment import Augment
from medsynth_ray.classifiers._network import _schedule
from medsynth_ray.classifiers._timm import _blocks, freeze_blocks
from medsynth_ray.classifiers.resnet import Resnet
from medsynth_ray.errors import ConfigError, MedsynthError, Stopped, WeightsMissing
from medsynth_ray.images import ImageSet, to_unit_range
from medsynth_ray.protocols import History, Weights
from medsynth_ray.testing import LocalRuntime, toy_images

TRAIN, VAL = toy_images((20, 13), size_px=32), toy_images((6, 6), size_px=32, seed=1, prefix="val")


def classifier(**settings: Any) -> Resnet:
    small = {"model": "test_resnet", "train_batch_size": 8, "num_train_epochs": 2, "learning_rate": 3e-3}
    return Resnet(Resnet.Config(**{**small, **settings}))


def fit(found: Resnet, *, train: ImageSet = TRAIN, seed: int = 0, runtime: LocalRuntime | None = None) -> History:
    return found.fit(train, val=VAL, seed=seed, runtime=runtime or LocalRuntime())


def test_it_learns_the_toy_classes() -> None:
    train, val = toy_images((40, 26), size_px=32), toy_images((20, 20), size_px=32, seed=1, prefix="val")
    # Without augmentation, because these classes differ in brightness alone.
    found = classifier(num_train_epochs=8, learning_rate=0.01, augment=Augment.none())
    history = found.fit(train, val=val, seed=0, runtime=LocalRuntime())
    assert history[-1]["train_loss"] < 0.5 * history[0]["train_loss"]
    assert history[-1]["val_balanced_accuracy"] >= 0.9
    predicted = found.predict(val, runtime=LocalRuntime()).argmax(axis=1)
    assert np.mean(predicted == val.labels) == pytest.approx(history[-1]["val_balanced_accuracy"])


@pytest.mark.parametrize(
    ("settings", "steps", "watched"),
    [
        ({}, 8, [False, True]),
        ({"eval_strategy": "epoch"}, 8, [True, True]),
        ({"max_train_steps": 5}, 5, [False, True]),
        ({"train_batch_size": 100, "num_train_epochs": 3}, 3, [False, False, True]),
    ],
)
def test_steps_and_looks_at_val(settings: dict[str, Any], steps: int, watched: list[bool]) -> None:
    runtime = LocalRuntime()
    history = fit(classifier(**settings), runtime=runtime)
    assert runtime.progress_seen[-1] == (steps, steps, "training steps")
    assert ["val_loss" in epoch for epoch in history] == watched


def test_the_seed_decides_every_bit() -> None:
    first, again, other = classifier(), classifier(), classifier()
    fit(first, seed=1)
    torch.randn(3)
    fit(again, seed=1)
    fit(other, seed=2)
    probs = [c.predict(VAL, runtime=LocalRuntime()) for c in (first, again, other)]
    np.testing.assert_array_equal(probs[0], probs[1])
    assert np.abs(probs[0] - probs[2]).max() > 1e-3


def test_a_saved_classifier_predicts_the_same_bits(tmp_path: Path) -> None:
    found = classifier(max_train_steps=2)
    fit(found)
    found.save(tmp_path)
    loaded = Resnet.load(tmp_path)
    np.testing.assert_array_equal(
        loaded.predict(VAL, runtime=LocalRuntime()), found.predict(VAL, runtime=LocalRuntime())
    )
    with pytest.raises(ValueError, match=r"fitted on images of \[32, 32, 3\], got \[16, 16, 3\]"):
        loaded.predict(toy_images((1, 1)), runtime=LocalRuntime())


def test_bf16_stays_near_float32() -> None:
    probs = []
    for precision in ("no", "bf16"):
        found = classifier(max_train_steps=3, mixed_precision=precision)
        fit(found)
        probs.append(found.predict(VAL, runtime=LocalRuntime()))
    assert 0 < np.abs(probs[0] - probs[1]).max() < 0.1
    np.testing.assert_allclose(probs[1].sum(axis=1), 1.0, atol=1e-6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(7)
        save_file(timm.create_model("test_resnet", num_classes=1000).state_dict(), path)
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_it_starts_from_local_weights(checkpoint: Path, channels: int, tmp_path: Path) -> None:
    """With a learning rate that moves nothing, the backbone is the checkpoint's."""
    train = toy_images((20, 13), size_px=32, channels=channels)
    found = classifier(weights=str(checkpoint), learning_rate=1e-12, weight_decay=0.0, max_train_steps=1)
    found.fit(train, val=train, seed=0, runtime=LocalRuntime())
    found.save(tmp_path)
    saved, given = load_file(tmp_path / "classifier.safetensors"), load_file(checkpoint)
    torch.testing.assert_close(saved["1.layer1.0.conv1.weight"], given["layer1.0.conv1.weight"])
    first = given["conv1.0.weight"]
    expected = first if channels == 3 else first.sum(dim=1, keepdim=True)
    torch.testing.assert_close(saved["1.conv1.0.weight"], expected)
    probs = Resnet.load(tmp_path).predict(train, runtime=LocalRuntime())
    np.testing.assert_array_equal(probs, found.predict(train, runtime=LocalRuntime()))


@pytest.mark.parametrize(("freeze_up_to", "trained"), [(0, 6), (3, 3), (5, 1)])
def test_frozen_blocks_stay_as_in_the_checkpoint(
    checkpoint: Path, tmp_path: Path, freeze_up_to: int, trained: int
) -> None:
    """Running statistics of their batch norms, too; the stem is the first of the five blocks before the head."""
    found = classifier(weights=str(checkpoint), freeze_up_to=freeze_up_to, learning_rate=0.05, max_train_steps=3)
    fit(found)
    found.save(tmp_path)
    saved, given = load_file(tmp_path / "classifier.safetensors"), load_file(checkpoint)
    changed = {
        name.split(".")[0].replace("bn1", "conv1")
        for name, tensor in given.items()
        if not torch.equal(saved[f"1.{name}"][: len(tensor)] if tensor.ndim else saved[f"1.{name}"], tensor)
    }
    assert changed == set(["conv1", "layer1", "layer2", "layer3", "layer4", "fc"][-trained:])


def test_only_blocks_that_are_there_and_trained_can_be_frozen(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="freeze_up_to: test_resnet has 5 blocks before its head, got 6"):
        fit(classifier(weights=str(checkpoint), freeze_up_to=6))
    with pytest.raises(ValidationError, match="freeze_up_to: 2 would freeze random layers; give `weights`"):
        classifier(freeze_up_to=2)


@pytest.mark.parametrize("model", ["resnet18", "convnext_atto", "test_vit", "test_efficientnet", "legacy_xception"])
def test_all_blocks_frozen_leaves_the_head(model: str) -> None:
    with torch.device("meta"):
        network: Any = timm.create_model(model, num_classes=2)
    freeze_blocks(network, len(_blocks(network)), model)
    left = {name.rpartition(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    head = {name for name, module in network.named_modules() if module is network.get_classifier()}
    # timm counts the norm of ConvNeXt's pooled features among its head.
    assert left == head | ({"head.norm"} if model == "convnext_atto" else set())


@pytest.mark.parametrize(("model", "resolution"), [("test_resnet", None), ("test_resnet", 48), ("test_vit", 64)])
def test_the_last_layer_reads_what_embed_gives(model: str, resolution: int | None, tmp_path: Path) -> None:
    found = classifier(model=model, resolution=resolution, max_train_steps=2)
    fit(found)
    found.save(tmp_path)
    features = found.embed(VAL, runtime=LocalRuntime())
    assert features.dtype == np.float32
    saved, head = load_file(tmp_path / "classifier.safetensors"), "fc" if model == "test_resnet" else "head"
    prefix = "" if resolution is None else "1."
    logits = torch.from_numpy(features) @ saved[f"{prefix}{head}.weight"].T + saved[f"{prefix}{head}.bias"]
    np.testing.assert_allclose(found.predict(VAL, runtime=LocalRuntime()), logits.softmax(dim=1), atol=1e-5)
    assert found.embed(VAL.take([]), runtime=LocalRuntime()).shape == (0, features.shape[1])


def test_a_resolution_is_what_the_network_sees() -> None:
    """Scaled inside, it predicts what the same network predicts of images that were scaled before."""
    found = classifier(resolution=64, max_train_steps=2)
    fit(found)
    steps = list(found._network)  # type: ignore[call-overload]
    x_NCHW = torch.from_numpy(to_unit_range(VAL.pixels))
    x_NCHW = F.interpolate(x_NCHW, size=(64, 64), mode="bicubic", antialias=True).clamp(-1, 1)
    with torch.inference_mode():
        expected = steps[-1].eval()(x_NCHW).softmax(dim=1).numpy()
    np.testing.assert_allclose(found.predict(VAL, runtime=LocalRuntime()), expected, atol=1e-5)


def test_it_says_whether_it_is_pretrained() -> None:
    assert (classifier().config.pretrained, classifier(weights="w.pth").config.pretrained) == (False, True)


def test_weights_are_declared_and_a_missing_file_is_named(tmp_path: Path) -> None:
    found = classifier(weights=str(tmp_path / "nowhere.pth"))
    assert found.config.needs() == (Weights(str(tmp_path / "nowhere.pth")),)
    with pytest.raises(WeightsMissing, match=r"nowhere\.pth"):
        fit(found)


def test_weights_of_another_model_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="do not fit test_efficientnet"):
        fit(classifier(model="test_efficientnet", weights=str(checkpoint)))


def test_the_small_stem_quadruples_the_first_map() -> None:
    networks = {
        stem: classifier(model="resnet18", stem=stem).make_network((32, 32, 1), 2, None)
        for stem in ("imagenet", "small")
    }
    x_NCHW, sides = torch.zeros(1, 1, 32, 32), {}
    for stem, network in networks.items():
        sides[stem] = network.maxpool(network.conv1(x_NCHW)).shape[-1]
    assert sides == {"imagenet": 8, "small": 16}


def test_a_stem_that_cannot_be_made_small_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="stem: small needs a model with a 7 x 7 .* test_vit has none"):
        fit(classifier(model="test_vit", stem="small"))
    with pytest.raises(ValidationError, match="stem: small is for training from scratch"):
        classifier(stem="small", weights=str(checkpoint))


def test_other_families_work_too() -> None:
    found = classifier(model="test_vit", max_train_steps=1)
    fit(found)
    assert found.predict(VAL, runtime=LocalRuntime()).shape == (12, 2)


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match="no model 'resnet81'; did you mean 'resnet"):
        classifier(model="resnet81")


def test_it_asks_at_every_step_whether_to_stop() -> None:
    runtime = LocalRuntime(stop_after=3)
    with pytest.raises(Stopped, match="after 3 of 8 steps"):
        fit(classifier(), runtime=runtime)
    assert len(runtime.progress_seen) == 3


def test_a_loss_that_is_not_finite_is_told_with_its_step() -> None:
    with pytest.raises(MedsynthError, match=r"diverged: the classifier's loss is (nan|inf) at step \d"):
        fit(classifier(learning_rate=1e30, warmup_share=0.0))


def test_an_unfitted_classifier_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="was not fitted"):
        classifier().predict(VAL, runtime=LocalRuntime())
    with pytest.raises(ValueError, match="nothing to save"):
        classifier().save(tmp_path)


def test_the_schedule_warms_up_and_falls_to_almost_0() -> None:
    rates = [_schedule(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert max(rates) == rates[9] == 1.0
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 1e-3
