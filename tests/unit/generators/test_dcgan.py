"""Dcgan: its networks against the paper's, the average that draws, the duel's losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medsynth_ray.errors import ConfigError
from medsynth_ray.generators._latent import LatentGenerator
from medsynth_ray.generators._training import seeded
from medsynth_ray.generators.dcgan import SIZES_PX, Dcgan, Discriminator, _cross_entropy, _spread, changed
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Draw, HasNetwork
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


def tiny(**settings: object) -> Dcgan:
    return Dcgan(Dcgan.Config.model_validate({**Dcgan.Config.tiny().model_dump(), **settings}))


def fitted(shown: ImageSet, **settings: object) -> Dcgan:
    generator = tiny(**settings)
    generator.fit(shown, seed=5, runtime=LocalRuntime())
    return generator


def drawn(generator: LatentGenerator, labels: np.ndarray, *, first_seed: int = 0) -> np.ndarray:
    seeds = np.arange(first_seed, first_seed + len(labels), dtype=np.uint64)
    draw = Draw(labels, np.arange(len(labels)), seeds)
    return np.concatenate([s.images for s in generator.sample(draw, sources=None, runtime=LocalRuntime())])


def networks(size_px: int, channels: int, num_classes: int) -> tuple[torch.nn.Module, Discriminator]:
    """With the default widths, without memory."""
    with torch.device("meta"):
        generator = Dcgan(Dcgan.Config()).make_network((size_px, size_px, channels), num_classes)
        return generator, Discriminator(64, size_px, channels, num_classes, minibatch_std=False)


def size(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def parameters(config: Dcgan.Config) -> tuple[int, int]:
    """Of generator and discriminator at 64 px, RGB, as a fit makes them."""
    component, shape = Dcgan(config), (64, 64, 3)
    with torch.device("meta"):
        network = component.make_network(shape, 2 if config.conditional else 0)
        trainee = component.make_trainee(network, shape, 2 if config.conditional else 0)
    return size(network), size(trainee.modules["discriminator"])


def test_networks_have_6_3_million_parameters() -> None:
    assert parameters(Dcgan.Config(preset="paper002")) == (3_576_704, 2_765_568)


def test_minibatch_std_of_the_default_costs_16_more() -> None:
    assert parameters(Dcgan.Config(conditional=False)) == (3_576_704, 2_765_568 + 16)


def test_labels_cost_two_embeddings_and_their_part_of_the_first_stage() -> None:
    plain, conditional = networks(64, 3, 0), networks(64, 3, 8)
    assert size(conditional[0]) - size(plain[0]) == 8 * 32 + 32 * 512 * 16
    assert size(conditional[1]) - size(plain[1]) == 8 * 512


@pytest.mark.parametrize("size_px", SIZES_PX)
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_at_every_size(size_px: int, channels: int) -> None:
    generator, discriminator = networks(size_px, channels, 2)
    labels = torch.zeros(5, dtype=torch.int64, device="meta")
    images = generator(torch.empty(5, 100, device="meta"), labels)
    assert images.shape == (5, channels, size_px, size_px)
    assert discriminator(images, labels).shape == (5,)


@pytest.mark.parametrize(("height", "width"), [(48, 48), (8, 8), (256, 256), (64, 32)])
def test_other_sizes_are_refused(height: int, width: int) -> None:
    with pytest.raises(ConfigError, match=f"dcgan: images are {height} x {width} px; allowed are squares of .*128"):
        Dcgan(Dcgan.Config()).make_network((height, width, 3), 2)


def test_initial_weights_are_normal_with_deviation_0_02() -> None:
    with seeded(1):
        generator = Dcgan(Dcgan.Config(num_generator_channels=16)).make_network((64, 64, 3), 0)
    deviations = [float(p.detach().std()) for p in generator.parameters() if p.ndim == 4]
    assert deviations == pytest.approx([0.02] * 5, rel=0.05)


def test_discriminator_adds_a_projection_of_the_label() -> None:
    with seeded(1):
        discriminator = Discriminator(4, 16, 1, 3, minibatch_std=False).eval()
    x, labels = torch.rand(6, 1, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.no_grad():
        features = discriminator.features(x)
        plain = discriminator.score(features).flatten()
        rows = discriminator.label.weight[labels]
        expected = plain + torch.einsum("nchw,nc->n", features, rows)
        assert torch.allclose(discriminator(x, labels), expected, atol=1e-6)
    assert float((expected - plain).abs().min()) > 0


@pytest.mark.parametrize("target", [1.0, 0.9, 0.0])
def test_cross_entropy_against_its_formula(target: float) -> None:
    logits = torch.tensor([0.0, 2.0, -1.0], dtype=torch.float64)
    p = logits.sigmoid()
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    assert float(_cross_entropy(logits, target)) == pytest.approx(float(expected), rel=1e-12)


def test_smoothing_moves_the_discriminator_alone() -> None:
    first = []
    for smoothing in (0.0, 0.2):
        runtime = LocalRuntime()
        tiny(label_smoothing=smoothing).fit(toy_images(), seed=5, runtime=runtime)
        first.append(runtime.reports[0][1])
    # Before the first step all logits are near 0, where every target costs log 2; a target of 0.8 adds 0.2 times the
    # mean logit of real images.
    assert first[0]["discriminator_loss"] == pytest.approx(2 * math.log(2), abs=0.15)
    assert first[0]["discriminator_loss"] != first[1]["discriminator_loss"]
    assert first[0]["images_seen"] == 8.0


def test_average_follows_the_generator() -> None:
    generator = tiny(ema_decay=0.95)
    with seeded(2):
        average = generator.make_network((16, 16, 3), 2)
        duel = generator.make_trainee(average, (16, 16, 3), 2)
    before = {k: v.clone() for k, v in average.state_dict().items()}
    x, labels = torch.rand(8, 3, 16, 16) * 2 - 1, torch.arange(8) % 2
    duel.step(x, labels, step=2, noise=torch.Generator().manual_seed(0))
    for name, now in duel.modules["generator"].state_dict().items():
        kept = 3 / 12  # (1 + step) / (10 + step), below the decay
        expected = kept * before[name] + (1 - kept) * now if now.is_floating_point() else now
        assert torch.allclose(average.state_dict()[name], expected, atol=1e-6), name


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_looking_at_checkpoints_changes_nothing(ema_decay: float) -> None:
    straight, watched, runtime = fitted(toy_images(), ema_decay=ema_decay), tiny(ema_decay=ema_decay), Looking()
    runtime.generator = watched
    watched.fit(toy_images(), seed=5, runtime=runtime)
    labels = np.arange(10) % 2
    assert np.array_equal(drawn(watched, labels), drawn(straight, labels))
    assert len(runtime.looks) == 9
    assert np.array_equal(runtime.looks[-1], drawn(straight, labels[:2]))
    assert not np.array_equal(runtime.looks[0], runtime.looks[-1])


@pytest.mark.parametrize("settings", [{"ema_decay": 0.0}, {"mixed_precision": "bf16"}, {"conditional": False}])
def test_rungs_come_to_the_same_images(settings: dict[str, object]) -> None:
    shown, labels = toy_images((20, 0)), np.zeros(6, dtype=np.int64)
    straight, runtime = fitted(shown, **settings), LocalRuntime()
    for runtime.fit_share in straight.config.rungs():
        climbing = tiny(**settings)
        climbing.fit(shown, seed=5, runtime=runtime)
    assert np.array_equal(drawn(climbing, labels), drawn(straight, labels))


def test_image_is_the_same_in_any_company() -> None:
    generator = fitted(toy_images(size_px=32), num_generator_channels=7, latent_dim=13)
    labels = np.arange(75) % 2
    whole = drawn(generator, labels)
    assert np.array_equal(drawn(generator, labels[17:], first_seed=17), whole[17:])
    assert np.array_equal(drawn(generator, labels[74:], first_seed=74), whole[74:])
    assert len(np.unique(whole.reshape(75, -1), axis=0)) == 75


def test_each_class_is_drawn_in_its_own_brightness() -> None:
    shown = toy_images((60, 60))
    pixels = (shown.pixels // 4 + 150 * shown.labels[:, None, None, None]).astype(np.uint8)
    bright = ImageSet(pixels, shown.labels, shown.groups, shown.ids, shown.class_names)
    generator = fitted(bright, max_train_steps=200, train_batch_size=16, learning_rate=1e-3, ema_decay=0.9)
    images = drawn(generator, np.repeat([0, 1], 30)).astype(float)
    real_gap = float(bright.of_class(1).pixels.mean()) - float(bright.of_class(0).pixels.mean())
    gap = float(images[30:].mean() - images[:30].mean())
    # A network that ignores labels has a gap of about 0.
    assert 0.5 * real_gap < gap < 1.2 * real_gap


def test_preset_has_the_papers_settings() -> None:
    config = Dcgan.Config(preset="paper002")
    assert (config.num_train_epochs, config.train_batch_size, config.learning_rate) == (100, 128, 2e-4)
    assert (config.conditional, config.ema_decay, config.adam_beta1, config.latent_dim) == (False, 0.0, 0.5, 100)
    assert Dcgan.Config.model_validate({"preset": "paper002", "num_train_epochs": 2}).num_train_epochs == 2


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        Dcgan.Config(train_batch_size=1)


def test_network_is_what_draws() -> None:
    generator = fitted(toy_images())
    assert isinstance(generator, HasNetwork)
    z = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 8)).astype(np.float32))
    with torch.no_grad():
        x_NCHW = generator.network().eval()(z, torch.tensor([1])).numpy()
    levels = np.rint((x_NCHW[0].transpose(1, 2, 0) + 1.0) * 127.5)
    assert np.abs(levels - drawn(generator, np.array([1]))[0]).max() <= 1


def test_minibatch_std_is_one_more_channel_that_tells_equal_images_from_different_ones() -> None:
    with torch.device("meta"):
        plain, more = (Discriminator(64, 64, 3, 0, minibatch_std=std) for std in (False, True))
    assert size(more) - size(plain) == 4 * 4
    features = torch.randn(6, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    spread = _spread(features)
    assert spread.shape == (6, 1, 4, 4)
    assert float(spread[0, 0, 0, 0]) == pytest.approx(float(features.std(dim=0, unbiased=False).mean()), rel=1e-5)
    assert float(_spread(features[:1].expand(6, -1, -1, -1)).max()) == pytest.approx(1e-4, rel=1e-3)


def test_changes_stay_in_their_ranges_and_let_gradients_through() -> None:
    x = torch.full((64, 1, 16, 16), 0.2, requires_grad=True)
    y = changed(x, torch.Generator().manual_seed(3))
    inside = y[:, :, 4:12, 4:12].flatten(1)  # a shift by up to 2 px leaves it on the image
    levels = inside.mean(dim=1).detach()
    assert float((inside.detach() - levels[:, None]).abs().max()) < 1e-6
    assert -0.05 <= float(levels.min()) < 0.0
    assert 0.4 < float(levels.max()) <= 0.45
    y.sum().backward()
    assert x.grad is not None
    assert float(x.grad[:, :, 4:12, 4:12].min()) > 0.0


def test_a_shifted_image_moves_by_up_to_an_eighth_and_is_gray_where_nothing_was() -> None:
    x = torch.zeros(200, 1, 16, 16)
    x[:, :, 8, 8] = 1.0
    y = changed(x, torch.Generator().manual_seed(4))
    peaks = (y - y.flatten(1).median(dim=1).values[:, None, None, None]).flatten(1).argmax(dim=1)
    moved = {(int(p) // 16 - 8, int(p) % 16 - 8) for p in peaks}
    assert {abs(d) for pair in moved for d in pair} == {0, 1, 2}
    assert (changed(torch.ones(50, 1, 16, 16), torch.Generator().manual_seed(5)) == 0.0).any()
