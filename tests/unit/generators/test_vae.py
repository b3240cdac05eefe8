"""Vae: its size, its bound against closed forms, what it draws."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Normal, kl_divergence

from medsynth_ray.errors import ConfigError, Diverged, Stopped
from medsynth_ray.generators._latent import LatentGenerator
from medsynth_ray.generators._training import seeded
from medsynth_ray.generators.vae import Autoencoder, Vae
from medsynth_ray.images import ImageSet, to_unit_range
from medsynth_ray.protocols import Draw, HasLoss, HasNetwork
from medsynth_ray.seeds import derive
from medsynth_ray.testing import LocalRuntime, toy_images


class Looking(LocalRuntime):
    """Draws from the generator whenever it keeps a checkpoint, as the engine does."""

    generator: LatentGenerator

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[np.ndarray] = []

    def checkpoint(self, save, *, step: int) -> None:
        """Draw, then keep."""
        self.looks.append(drawn(self.generator, np.array([0, 1])))
        super().checkpoint(save, step=step)


def fitted(shown: ImageSet, **settings: object) -> Vae:
    generator = Vae(Vae.Config.model_validate({**Vae.Config.tiny().model_dump(), **settings}))
    generator.fit(shown, seed=5, runtime=LocalRuntime())
    return generator


def drawn(generator: LatentGenerator, labels: np.ndarray, *, first_seed: int = 0) -> np.ndarray:
    seeds = np.arange(first_seed, first_seed + len(labels), dtype=np.uint64)
    draw = Draw(labels, np.arange(len(labels)), seeds)
    return np.concatenate([s.images for s in generator.sample(draw, sources=None, runtime=LocalRuntime())])


def network(num_classes: int = 2, *, latent_dim: int = 3) -> Autoencoder:
    with seeded(1):
        return Autoencoder((8, 8, 3), 16, latent_dim, num_classes)


@pytest.mark.parametrize(("num_classes", "num_parameters"), [(0, 51_134_720), (8, 51_134_720 + 2 * 8 * 2048)])
def test_the_papers_network_has_51_million_parameters(num_classes: int, num_parameters: int) -> None:
    config = Vae.Config(preset="paper000")
    with torch.device("meta"):
        made = config.build().make_network((64, 64, 3), num_classes)
    assert sum(p.numel() for p in made.parameters()) == num_parameters


@pytest.mark.parametrize(("preset", "learning_rate", "batch_size"), [("paper000", 2e-4, 96), ("paper000_v0", 1e-4, 32)])
def test_preset_has_the_papers_settings(preset: str, learning_rate: float, batch_size: int) -> None:
    config = Vae.Config.model_validate({"preset": preset})
    assert (config.learning_rate, config.train_batch_size, config.num_train_epochs) == (learning_rate, batch_size, 3)
    assert (config.hidden_dim, config.latent_dim, config.conditional) == (2048, 128, False)
    assert config.num_steps(6484) == math.ceil(3 * 6484 / batch_size)


def test_what_is_given_goes_before_the_preset() -> None:
    config = Vae.Config.model_validate({"preset": "paper000", "beta": 0.5, "conditional": True})
    assert (config.beta, config.conditional, config.hidden_dim) == (0.5, True, 2048)


def test_max_train_steps_goes_before_epochs() -> None:
    assert Vae.Config(num_train_epochs=7, train_batch_size=64).num_steps(100) == 11
    assert Vae.Config(num_train_epochs=7, max_train_steps=3).num_steps(100) == 3


def test_divergence_is_that_of_two_normals() -> None:
    made, x = network(), torch.rand(5, 3, 8, 8) * 2 - 1
    labels = torch.tensor([0, 1, 0, 1, 1])
    with torch.no_grad():
        _, divergence = made.bound(x, labels, torch.Generator().manual_seed(0))
        one_hot = torch.nn.functional.one_hot(labels, 2).float()
        mean, log_variance = made.encoder(torch.cat([x.flatten(1) / 2 + 0.5, one_hot], dim=1)).chunk(2, dim=1)
    oracle = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    assert torch.allclose(divergence, oracle, atol=1e-5)


def test_reconstruction_of_an_undecided_decoder_is_log_2_for_each_value() -> None:
    made = network()
    torch.nn.init.zeros_(made.decoder[2].weight)
    torch.nn.init.zeros_(made.decoder[2].bias)
    with torch.no_grad():
        reconstruction, _ = made.bound(torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64), torch.Generator())
        images = made(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))
    assert reconstruction.tolist() == pytest.approx([192 * math.log(2)] * 4, rel=1e-5)
    assert images.abs().max() == 0.0


def test_loss_sums_the_bound_and_beta_weighs_it() -> None:
    shown = toy_images()
    terms = []
    for beta in (0.0, 2.0):
        runtime = LocalRuntime()
        Vae(Vae.Config.tiny().model_copy(update={"beta": beta})).fit(shown, seed=5, runtime=runtime)
        terms.append(runtime.reports[0][1])
    assert terms[0]["reconstruction"] == terms[1]["reconstruction"]
    assert terms[0]["loss"] == terms[0]["reconstruction"]
    assert terms[1]["loss"] == pytest.approx(terms[1]["reconstruction"] + 2 * terms[1]["divergence"], rel=1e-6)


def test_each_class_is_drawn_around_its_own_mean() -> None:
    shown = toy_images((40, 40))
    generator = fitted(shown, max_train_steps=300, learning_rate=3e-3, beta=4.0)
    images = drawn(generator, np.repeat([0, 1], 60)).astype(float)
    for label in (0, 1):
        own = shown.of_class(label).pixels.mean(axis=0, dtype=np.float64)
        assert np.abs(images[60 * label : 60 * label + 60].mean(axis=0) - own).mean() < 6.0
    assert images[60:].mean() - images[:60].mean() > 15.0


def test_loss_tells_shown_images_from_noise() -> None:
    shown = toy_images((40, 40))
    generator = fitted(shown, max_train_steps=200, learning_rate=3e-3)
    noise = np.random.default_rng(0).integers(0, 256, shown.pixels.shape, dtype=np.uint8)
    strange = ImageSet(noise, shown.labels, shown.groups, shown.ids, shown.class_names)
    low, high = (generator.loss(images, seed=1, runtime=LocalRuntime()) for images in (shown, strange))
    assert (low.dtype, low.shape) == (np.float32, (80,))
    assert low.max() < high.min()
    assert np.array_equal(generator.loss(shown, seed=1, runtime=LocalRuntime()), low)
    assert isinstance(generator, HasLoss)
    assert isinstance(generator, HasNetwork)


def test_loss_is_the_mean_bound_over_draws_that_all_images_share() -> None:
    shown = toy_images((40, 30))
    generator = fitted(shown)
    losses = generator.loss(shown, seed=1, runtime=LocalRuntime())
    draws = torch.randn((4, 4), generator=torch.Generator().manual_seed(derive(1, "loss")))
    x, labels = torch.from_numpy(to_unit_range(shown.pixels)), torch.tensor(shown.labels)
    with torch.no_grad():
        bounds = [sum(generator.network().bound(x, labels, draw.expand(70, -1))) for draw in draws]
    assert losses == pytest.approx(torch.stack(bounds).mean(dim=0).numpy(), rel=1e-5)
    some = np.arange(70)[::-3]
    assert np.array_equal(generator.loss(shown.take(some), seed=1, runtime=LocalRuntime()), losses[some])
    assert not np.array_equal(generator.loss(shown, seed=2, runtime=LocalRuntime()), losses)
    assert generator.loss(shown.take([]), seed=1, runtime=LocalRuntime()).shape == (0,)


def test_loss_stops_when_asked() -> None:
    generator = fitted(toy_images())
    with pytest.raises(Stopped, match="loss of 0 of 20 images"):
        generator.loss(toy_images(), seed=0, runtime=LocalRuntime(stop_after=0))


def test_looking_at_checkpoints_changes_nothing() -> None:
    straight, watched, runtime = fitted(toy_images()), Vae(Vae.Config.tiny()), Looking()
    runtime.generator = watched
    watched.fit(toy_images(), seed=5, runtime=runtime)
    labels = np.arange(10) % 2
    assert np.array_equal(drawn(watched, labels), drawn(straight, labels))
    assert len(runtime.looks) == 9
    assert np.array_equal(runtime.looks[-1], drawn(straight, labels[:2]))
    assert not np.array_equal(runtime.looks[0], runtime.looks[-1])


def test_image_is_the_same_in_any_company() -> None:
    generator = fitted(toy_images(size_px=32), hidden_dim=37, latent_dim=5)
    labels = np.arange(75) % 2
    whole = drawn(generator, labels)
    assert np.array_equal(drawn(generator, labels[17:], first_seed=17), whole[17:])
    assert np.array_equal(drawn(generator, labels[74:], first_seed=74), whole[74:])
    assert len(np.unique(whole.reshape(75, -1), axis=0)) == 75


@pytest.mark.parametrize(("flip", "axis"), [("horizontal_flip", 3), ("vertical_flip", 2)])
def test_flip_mirrors_some_images_whole(flip: str, axis: int) -> None:
    x = torch.rand(64, 3, 8, 8)
    found = Vae.Config.model_validate({flip: True}).mirrored(x, torch.Generator().manual_seed(0))
    same = (found == x).flatten(1).all(dim=1)
    turned = (found == x.flip(axis)).flatten(1).all(dim=1)
    assert bool((same ^ turned).all())
    assert 16 < int(turned.sum()) < 48


def test_batch_is_not_mirrored_unless_asked() -> None:
    x, noise = torch.rand(4, 3, 8, 8), torch.Generator().manual_seed(0)
    assert Vae.Config().mirrored(x, noise) is x
    assert torch.equal(torch.rand(2, generator=noise), torch.rand(2, generator=torch.Generator().manual_seed(0)))


def test_without_labels_one_class_is_learnt() -> None:
    generator = fitted(toy_images((0, 20)), conditional=False)
    assert drawn(generator, np.array([1, 1])).shape == (2, 16, 16, 3)
    assert generator.network().decoder[0].in_features == 4


def test_without_labels_several_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="conditional is false, but images of 2 classes were shown"):
        fitted(toy_images(), conditional=False)


def test_class_that_was_not_shown_is_refused() -> None:
    generator = fitted(toy_images((20, 0)))
    with pytest.raises(ValueError, match="vae: no image of class 1 was shown"):
        drawn(generator, np.array([0, 1]))


def test_nothing_shown_is_refused() -> None:
    with pytest.raises(ValueError, match="vae: no image was shown"):
        fitted(toy_images((0, 0)))


def test_a_learning_rate_that_is_too_high_diverges() -> None:
    with pytest.raises(Diverged, match=r"vae: loss is (nan|inf).* at step \d+"):
        fitted(toy_images(), learning_rate=1.0, hidden_dim=256, max_train_steps=400)


def test_images_need_not_be_square(tmp_path: Path) -> None:
    whole = toy_images()
    shown = ImageSet(whole.pixels[:, :11, :7], whole.labels, whole.groups, whole.ids, whole.class_names)
    generator = fitted(shown)
    generator.save(tmp_path)
    assert load_file(tmp_path / "model.safetensors")["image_shape"].tolist() == [11, 7, 3]
    assert np.array_equal(drawn(Vae.load(tmp_path), np.array([0, 1])), drawn(generator, np.array([0, 1])))
