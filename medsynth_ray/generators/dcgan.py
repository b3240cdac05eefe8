"""DCGAN (Radford et al., arXiv 1511.06434): strided convolutions with batch norm, Adam with beta1 0.5.

Where we differ: conditional by default - the label's embedding stands beside z, and the discriminator adds the inner
product of its pooled features with an embedding of the label (projection: Miyato and Koyama, arXiv 1802.05637); images
are drawn by a running average of the generator's weights; the discriminator sees real and synthetic images through
the same random changes of brightness, contrast and place (DiffAugment: Zhao et al., arXiv 2006.10738), without which it
knows a thousand training images by heart; the spread of a batch is an extra channel of its last stage (minibatch
standard deviation: Karras et al., arXiv 1710.10196, section 3), against mode collapse; targets of real images may be
smoothed on one side (Salimans et al., arXiv 1606.03498, 3.4). The preset `paper002` has none of this.

At 64 px, RGB, 64 channels, not conditional: 3,576,704 parameters in the generator, 2,765,568 in the discriminator
without minibatch standard deviation (as in `paper002`), 16 more with it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from medsynth_ray.errors import ConfigError
from medsynth_ray.generators._latent import LatentConfig, LatentGenerator
from medsynth_ray.generators._training import Trainee
from medsynth_ray.space import LogUniform, Space, Uniform

SIZES_PX = (16, 32, 64, 128)
_LABEL_DIM = 32
_PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    "paper002": {
        "conditional": False,
        "num_train_epochs": 100,
        "train_batch_size": 128,
        "learning_rate": 2e-4,
        "label_smoothing": 0.0,
        "ema_decay": 0.0,
        "diff_augment": False,
        "minibatch_std": False,
    },
}


class Dcgan(LatentGenerator):
    """Draws with a deep convolutional adversarial network."""

    class Config(LatentConfig):
        """Settings of the two networks and of their duel."""

        preset: Literal["none", "paper002"] = "none"
        """Other defaults for what is not given below.

        - paper002: the baseline of Jiao et al. 2025 (arXiv 2506.21015): 6.3 million parameters, 100 epochs, one fit for
          each class. They refer to Radford et al. for the rest, whose batch of 128 and learning rate of 2e-4 (both
          networks) are used, without average and smoothing."""
        num_generator_channels: int = Field(default=64, ge=1, le=1024)
        """Channels of the generator's last hidden stage (ngf); each earlier stage has twice as many."""
        num_discriminator_channels: int = Field(default=64, ge=1, le=1024)
        """Channels of the discriminator's first stage (ndf); each later stage has twice as many."""
        discriminator_learning_rate: float | None = Field(default=None, gt=0.0, le=1.0)
        """Of the discriminator's Adam; None: `learning_rate`."""
        adam_beta1: float = Field(default=0.5, ge=0.0, lt=1.0)
        """Of both optimisers; beta2 is 0.999."""
        label_smoothing: float = Field(default=0.0, ge=0.0, lt=0.5)
        """The discriminator's target for real images is 1 less this."""
        diff_augment: bool = True
        """The discriminator sees all images changed at random: brightness by up to an eighth of the range, contrast by
        up to a half, place by up to an eighth of the side. Synthetic images do not show these changes."""
        minibatch_std: bool = True
        """The discriminator is told how much the images of a batch differ."""
        ema_decay: float = Field(default=0.998, ge=0.0, lt=1.0)
        """Share that the running average of the generator keeps at each step (less at the beginning). Images come from
        the average: the generator itself circles around, and from one step to the next its images change. 0: from the
        generator itself."""

        @model_validator(mode="before")
        @classmethod
        def _fill_from_preset(cls, given: Any) -> Any:
            preset = _PRESETS.get(str(given.get("preset", "none")), {}) if isinstance(given, dict) else {}
            return {**preset, **given} if preset else given

        @classmethod
        def tiny(cls) -> Dcgan.Config:
            """Twelve steps of a small pair of networks."""
            return cls(
                num_generator_channels=8, num_discriminator_channels=8, latent_dim=8, train_batch_size=8,
                max_train_steps=12,
            )  # fmt: skip

        def search_space(self) -> dict[str, Space]:
            """Learning rates, beta1 and smoothing."""
            return {
                "learning_rate": LogUniform(low=5e-5, high=1e-3),
                "discriminator_learning_rate": LogUniform(low=5e-5, high=1e-3),
                "adam_beta1": Uniform(low=0.0, high=0.6),
                "label_smoothing": Uniform(low=0.0, high=0.2),
            }

    config: Config

    def make_network(self, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """The generator.

        Raises:
            ConfigError: images are not square, or of a size that strides of 2 from 4 px do not reach.
        """
        height, width, channels = image_shape
        if height != width or height not in SIZES_PX:
            raise ConfigError(f"dcgan: images are {height} x {width} px; allowed are squares of {SIZES_PX} px")
        config = self.config
        return GeneratorNetwork(config.latent_dim, config.num_generator_channels, height, channels, num_classes)

    def make_trainee(self, network: nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> Trainee:
        """The duel; `network` becomes the average."""
        discriminator = Discriminator(
            self.config.num_discriminator_channels, image_shape[0], image_shape[2], num_classes,
            minibatch_std=self.config.minibatch_std,
        )  # fmt: skip
        return _Duel(self.config, network, discriminator)


class GeneratorNetwork(nn.Module):
    """z and the label's embedding -> 4 px -> ... -> size_px; batch norm and ReLU after each stage, tanh at the end."""

    def __init__(self, latent_dim: int, num_channels: int, size_px: int, num_colours: int, num_classes: int) -> None:
        super().__init__()
        widths = _widths(num_channels, size_px)[::-1]
        self.label = nn.Embedding(num_classes, _LABEL_DIM) if num_classes else None
        first = _up(latent_dim + (_LABEL_DIM if num_classes else 0), widths[0], stride=1, padding=0)
        stages = [_up(wide, narrow) for wide, narrow in zip(widths, widths[1:], strict=False)]
        last = nn.ConvTranspose2d(widths[-1], num_colours, 4, stride=2, padding=1, bias=False)
        self.layers = nn.Sequential(first, *stages, last, nn.Tanh())
        _prepare(self)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Images of the latent vectors: (N, C, H, W) in [-1, 1]."""
        if self.label is not None:
            z = torch.cat([z, self.label(labels)], dim=1)
        x_NCHW: torch.Tensor = self.layers(z[:, :, None, None])
        return x_NCHW


class Discriminator(nn.Module):
    """Images -> 4 px; batch norm from the second stage on, leaky ReLU; the logit of being real."""

    def __init__(
        self, num_channels: int, size_px: int, num_colours: int, num_classes: int, *, minibatch_std: bool
    ) -> None:
        super().__init__()
        widths = _widths(num_channels, size_px)
        first = nn.Sequential(_down(num_colours, widths[0]), nn.LeakyReLU(0.2, inplace=True))
        stages = [
            nn.Sequential(_down(narrow, wide), nn.BatchNorm2d(wide), nn.LeakyReLU(0.2, inplace=True))
            for narrow, wide in zip(widths, widths[1:], strict=False)
        ]
        self.features = nn.Sequential(first, *stages)
        self._minibatch_std = minibatch_std
        self.score = nn.Conv2d(widths[-1] + int(minibatch_std), 1, 4, bias=False)
        self.label = nn.Embedding(num_classes, widths[-1]) if num_classes else None
        _prepare(self)
        if self.label is not None:
            nn.init.normal_(self.label.weight, 0.0, 0.02)

    def forward(self, x_NCHW: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits (N,), float32."""
        features = self.features(x_NCHW)
        scored = torch.cat([features, _spread(features)], dim=1) if self._minibatch_std else features
        logits: torch.Tensor = self.score(scored).flatten()
        if self.label is not None:
            logits = logits + (features.sum(dim=(2, 3)) * self.label(labels)).sum(dim=1)
        return logits.float()


def _spread(features: torch.Tensor) -> torch.Tensor:
    """Standard deviation over the batch, averaged over channels and places, as one more channel: (N, 1, H, W)."""
    variance = features.float().var(dim=0, unbiased=False)
    mean = (variance + 1e-8).sqrt().mean().to(features.dtype)
    return mean.expand(len(features), 1, *features.shape[2:])


def changed(x_NCHW: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    """Brighten, stretch and shift each image by amounts from `noise`; differentiable, gray where nothing was.

    x_NCHW: float in [-1, 1]. Brightness by up to 0.25 either way, deviations from the mean by 0.5 to 1.5, place by up
    to an eighth of the side.
    """
    num, size, device = len(x_NCHW), x_NCHW.shape[2], x_NCHW.device
    brightness, contrast = (torch.rand(num, 1, 1, 1, generator=noise).to(device) for _ in range(2))
    x_NCHW = x_NCHW + (brightness - 0.5) * 0.5
    mean = x_NCHW.mean(dim=(1, 2, 3), keepdim=True)
    x_NCHW = (x_NCHW - mean) * (contrast + 0.5) + mean
    most = size // 8
    down, right = (torch.randint(-most, most + 1, (num, 1), generator=noise).to(device) for _ in range(2))
    place = torch.arange(size, device=device)[None] + most
    padded_NHWC = F.pad(x_NCHW, (most, most, most, most)).permute(0, 2, 3, 1)
    image = torch.arange(num, device=device)[:, None, None]
    return padded_NHWC[image, (place + down)[:, :, None], (place + right)[:, None, :]].permute(0, 3, 1, 2)


def _widths(num_channels: int, size_px: int) -> list[int]:
    """Channels of the stages between size_px / 2 and 4 px."""
    return [num_channels * 2**stage for stage in range(size_px.bit_length() - 3)]


def _up(num_in: int, num_out: int, *, stride: int = 2, padding: int = 1) -> nn.Sequential:
    conv = nn.ConvTranspose2d(num_in, num_out, 4, stride=stride, padding=padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(num_out), nn.ReLU(inplace=True))


def _down(num_in: int, num_out: int) -> nn.Conv2d:
    return nn.Conv2d(num_in, num_out, 4, stride=2, padding=1, bias=False)


def _prepare(network: nn.Module) -> None:
    network.apply(_initialise)
    network.to(memory_format=torch.channels_last)  # the faster layout on CPUs


def _initialise(module: nn.Module) -> None:
    """Normal, standard deviation 0.02 (section 4 of the paper)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class _Duel:
    """Generator, discriminator and the running average of the generator, which draws."""

    def __init__(self, config: Dcgan.Config, average: nn.Module, discriminator: Discriminator) -> None:
        device = next(average.parameters()).device
        self._config, self._average = config, average
        self._generator = copy.deepcopy(average).train() if config.ema_decay else average
        self._discriminator = discriminator.to(device)
        self._adam_g = self._adam(self._generator, config.learning_rate)
        self._adam_d = self._adam(self._discriminator, config.discriminator_learning_rate or config.learning_rate)
        self.modules: Mapping[str, nn.Module] = {"average": average, "discriminator": self._discriminator}
        if config.ema_decay:
            self.modules = {**self.modules, "generator": self._generator}
        self.optimisers: Mapping[str, torch.optim.Optimizer] = {
            "adam_generator": self._adam_g,
            "adam_discriminator": self._adam_d,
        }

    def step(
        self, x_NCHW: torch.Tensor, labels: torch.Tensor, *, step: int, noise: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """One step of the discriminator, then one of the generator, on the same synthetic images."""
        x_NCHW = self._config.mirrored(x_NCHW, noise).contiguous(memory_format=torch.channels_last)
        z = torch.randn(len(x_NCHW), self._config.latent_dim, generator=noise).to(x_NCHW.device)
        with self._autocast(x_NCHW):
            synthetic_NCHW = self._generator(z, labels)
        losses = {
            "discriminator_loss": self._discriminate(
                self._seen(x_NCHW, noise), self._seen(synthetic_NCHW.detach(), noise), labels
            ),
            "loss": self._deceive(self._seen(synthetic_NCHW, noise), labels),
        }
        if self._config.ema_decay:
            self._follow(min(self._config.ema_decay, (1 + step) / (10 + step)))
        return losses

    def _seen(self, x_NCHW: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
        """The images as the discriminator sees them."""
        return changed(x_NCHW, noise) if self._config.diff_augment else x_NCHW

    def _discriminate(self, real: torch.Tensor, synthetic: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        with self._autocast(real):
            logits = [self._discriminator(x_NCHW, labels) for x_NCHW in (real, synthetic)]
        loss = _cross_entropy(logits[0], 1.0 - self._config.label_smoothing) + _cross_entropy(logits[1], 0.0)
        return _descend(self._adam_d, loss)

    def _deceive(self, synthetic: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self._discriminator.requires_grad_(False)  # saves the gradients of its weights
        with self._autocast(synthetic):
            logits = self._discriminator(synthetic, labels)
        loss = _descend(self._adam_g, _cross_entropy(logits, 1.0))
        self._discriminator.requires_grad_(True)
        return loss

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        """Move the average towards the generator: weights and the statistics of batch norm."""
        pairs = zip(self._average.state_dict().values(), self._generator.state_dict().values(), strict=True)
        for mean, now in pairs:
            if mean.is_floating_point():
                mean.lerp_(now, 1.0 - decay)
            else:
                mean.copy_(now)

    def _autocast(self, x_NCHW: torch.Tensor) -> torch.autocast:
        return self._config.autocast(x_NCHW.device.type)

    def _adam(self, network: nn.Module, learning_rate: float) -> torch.optim.Adam:
        betas = (self._config.adam_beta1, 0.999)
        return torch.optim.Adam(network.parameters(), lr=learning_rate, betas=betas, fused=True)


def _cross_entropy(logits: torch.Tensor, target: float) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def _descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> torch.Tensor:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss.detach()
