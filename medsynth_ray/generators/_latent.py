"""Generators that draw an image from a latent vector and, where they are conditional, from its label.

z (N, L): standard normal, from each image's own seed. x_NCHW: float32 (N, C, H, W) in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import nn

from medsynth_ray.errors import ConfigError
from medsynth_ray.generators._drawing import in_shards
from medsynth_ray.generators._training import Trainee, seeded, train
from medsynth_ray.images import ImageSet, from_unit_range
from medsynth_ray.protocols import Component, Draw, GeneratorConfig, PoolShard, Runtime
from medsynth_ray.seeds import derive

_BATCH = 32
"""Images that go through the network at a time: always as many, padded, since the rounding of float kernels depends on
the size of the batch."""


class LatentConfig(GeneratorConfig):
    """Settings that all of them have; named as in diffusers' training scripts."""

    conditional: bool = True
    """One model that is told the label. False: it knows no labels, so all images shown to a fit must be of one class
    (a sampler can make one fit for each class)."""
    latent_dim: int = Field(default=100, ge=1, le=4096)
    """Length of the latent vector."""
    learning_rate: float = Field(default=2e-4, gt=0.0, le=1.0)
    """Of Adam."""
    train_batch_size: int = Field(default=64, ge=2, le=4096)
    """Images in a training step; the last batch of an epoch is filled up from the next."""
    num_train_epochs: int = Field(default=100, ge=1, le=1_000_000)
    """How often each shown image is used."""
    max_train_steps: int | None = Field(default=None, ge=1, le=100_000_000)
    """Training steps, in place of `num_train_epochs`; None: as many as those take."""
    horizontal_flip: bool = False
    """Mirror half of the training images left to right. Not where sides differ in meaning (heart, optic disc)."""
    vertical_flip: bool = False
    """Mirror half of the training images top to bottom: skin, histology."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """bf16: train under autocast to bfloat16; almost twice as fast on CPUs with AMX or AVX512-BF16, much slower on
    others. Drawing is always in float32."""

    def rungs(self) -> tuple[float, ...]:
        """A ninth, a third, all of the steps."""
        return (1 / 9, 1 / 3, 1.0)

    def num_steps(self, num_images: int) -> int:
        """Steps of a whole fit."""
        return self.max_train_steps or math.ceil(self.num_train_epochs * num_images / self.train_batch_size)

    def autocast(self, device_type: str) -> torch.autocast:
        """The precision of a training step."""
        return torch.autocast(device_type, dtype=torch.bfloat16, enabled=self.mixed_precision == "bf16")

    def mirrored(self, x_NCHW: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
        """The batch as it is shown to a training step: half of the images, drawn from `noise`, are mirrored."""
        for dim, wanted in ((3, self.horizontal_flip), (2, self.vertical_flip)):
            if wanted:
                chosen = torch.rand(len(x_NCHW), generator=noise) < 0.5
                x_NCHW = torch.where(chosen.to(x_NCHW.device)[:, None, None, None], x_NCHW.flip(dim), x_NCHW)
        return x_NCHW


class LatentGenerator(Component):
    """A network from (z, labels) to x_NCHW; subclasses say which, and how it learns."""

    needs_sources: ClassVar[bool] = False
    fitted_on_unknown: ClassVar[bool] = False
    config: LatentConfig

    def make_network(self, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """A fresh network that draws: forward(z, labels) -> x_NCHW. num_classes: 0 where labels are not used."""
        raise TypeError(f"{type(self).__name__} does not say what its network is")

    def make_trainee(self, network: nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> Trainee:
        """What trains `network`, which draws at any time; on the device of `network`."""
        raise TypeError(f"{type(self).__name__} does not say how it learns")

    def fit(self, shown: ImageSet, *, seed: int, runtime: Runtime) -> None:
        """Train up to the rung.

        Raises:
            ConfigError: the images do not fit the settings.
            ValueError: `shown` is empty.
            Stopped: the runtime asked for it.
            Diverged: a loss is NaN or infinite.
        """
        self._check(shown)
        num_classes = shown.num_classes if self.config.conditional else 0
        with seeded(derive(seed, "init")):
            self._network = self.make_network(shown.image_shape, num_classes).to(runtime.device)
            trainee = self.make_trainee(self._network, shown.image_shape, num_classes)
        self._image_shape, self._counts = shown.image_shape, shown.counts()
        config = self.config
        train(
            trainee, shown, name=self._name, batch_size=config.train_batch_size,
            num_steps=config.num_steps(len(shown)), seed=seed, runtime=runtime,
        )  # fmt: skip

    def capacity(self, label: int) -> int | None:
        """Return None: any number."""
        return None

    def network(self) -> Any:
        """The network that draws: forward(z, labels) -> x_NCHW."""
        return self._network

    def sample(self, draw: Draw, *, sources: ImageSet | None, runtime: Runtime) -> Iterator[PoolShard]:
        """Yield images of the fitted network.

        Raises:
            ValueError: no image of a class was shown.
        """
        missing = sorted(set(draw.labels.tolist()) - set(np.flatnonzero(self._counts).tolist()))
        if missing:
            raise ValueError(f"{self._name}: no image of class {missing[0]} was shown, so none can be drawn")
        self._network.to(runtime.device)
        yield from in_shards(draw, self._paint, runtime=runtime, shard_images=_BATCH)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        self.save_config(folder)
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self._network.state_dict().items()}
        facts = {"counts": torch.from_numpy(self._counts), "image_shape": torch.tensor(self._image_shape)}
        save_file({**tensors, **facts}, folder / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        generator = cls.from_config_of(folder)
        tensors = load_file(folder / "model.safetensors")
        generator._counts = tensors.pop("counts").numpy()
        height, width, channels = tensors.pop("image_shape").tolist()
        generator._image_shape = (height, width, channels)
        with seeded(0):
            num_classes = len(generator._counts) if generator.config.conditional else 0
            generator._network = generator.make_network(generator._image_shape, num_classes)
        generator._network.load_state_dict(tensors)
        return generator

    @property
    def _name(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def _check(self, shown: ImageSet) -> None:
        if not len(shown):
            raise ValueError(f"{self._name}: no image was shown, at least 1 is needed")
        num_shown = int((shown.counts() > 0).sum())
        if not self.config.conditional and num_shown > 1:
            raise ConfigError(
                f"{self._name}: conditional is false, but images of {num_shown} classes were shown, so the labels of "
                "its images would mean nothing: set conditional: true, or use a sampler that makes a part of each class"
            )

    def _paint(self, draw: Draw) -> PoolShard:
        device = next(self._network.parameters()).device
        z = np.zeros((_BATCH, self.config.latent_dim), dtype=np.float32)
        for row, seed in enumerate(draw.seeds):
            z[row] = np.random.default_rng(int(seed)).standard_normal(self.config.latent_dim)
        labels = np.full(_BATCH, draw.labels[0])
        labels[: len(draw)] = draw.labels
        with evaluating(self._network), torch.no_grad():
            x_NCHW = self._network(torch.from_numpy(z).to(device), torch.from_numpy(labels).to(device))
        pixels = from_unit_range(x_NCHW[: len(draw)].float().cpu().numpy())
        return PoolShard(pixels, np.full(len(draw), "", dtype=np.str_))


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put the network into evaluation inside; afterwards it trains again if it did before."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
