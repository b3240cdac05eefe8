"""A variational autoencoder (Kingma and Welling, arXiv 1312.6114) of two linear layers each way.

Hu, Maffezzoli and Mclaughlin 2024 drew fundus photographs of 64 px with it: hidden 2048, latent 128, 51.1 million
parameters. They scale images to [-1, 1] and end in a sigmoid, whose range is [0, 1]; here images are in [0, 1] on both
sides. Their reconstruction loss is not named; here it is the cross-entropy of each value, summed. Theirs is told no
label; ours is by default: the label, one-hot, stands beside the image and beside z.

P values of an image (all channels), L latent dimensions, K classes. An image is drawn as the decoder's mean: smooth.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import nn

from medsynth_ray.errors import Stopped
from medsynth_ray.generators._latent import LatentConfig, LatentGenerator
from medsynth_ray.generators._training import Trainee
from medsynth_ray.images import ImageSet, to_unit_range
from medsynth_ray.protocols import Runtime
from medsynth_ray.seeds import derive
from medsynth_ray.space import IntRange, LogUniform, Space

_LOSS_BATCH = 64
_LOSS_DRAWS = 4
_PAPER = {"conditional": False, "latent_dim": 128, "hidden_dim": 2048, "beta": 1.0}
_PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    "paper000": {**_PAPER, "learning_rate": 2e-4, "train_batch_size": 96, "num_train_epochs": 3},
    "paper000_v0": {**_PAPER, "learning_rate": 1e-4, "train_batch_size": 32, "num_train_epochs": 3},
}


class Vae(LatentGenerator):
    """Draws with the decoder of a variational autoencoder."""

    class Config(LatentConfig):
        """Settings."""

        preset: Literal["none", "paper000", "paper000_v0"] = "none"
        """Other defaults for what is not given below: settings of Hu et al. 2024, not conditional, 3 epochs.

        - paper000: their last ones, learning rate 2e-4, batch 96.
        - paper000_v0: their first ones, learning rate 1e-4, batch 32 (epochs are not stated); the loss had spikes."""
        latent_dim: int = Field(default=64, ge=1, le=4096)
        """Length of the latent vector."""
        hidden_dim: int = Field(default=512, ge=1, le=65536)
        """Width of the hidden layer of encoder and decoder."""
        beta: float = Field(default=1.0, ge=0.0, le=100.0)
        """Weight of the Kullback-Leibler term: below 1 images are sharper, but the prior fits the codes less."""
        learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0)
        """Of Adam."""

        @model_validator(mode="before")
        @classmethod
        def _fill_from_preset(cls, given: Any) -> Any:
            preset = _PRESETS.get(str(given.get("preset", "none")), {}) if isinstance(given, dict) else {}
            return {**preset, **given} if preset else given

        @classmethod
        def tiny(cls) -> Vae.Config:
            """Twelve steps of a small network."""
            return cls(hidden_dim=32, latent_dim=4, train_batch_size=8, max_train_steps=12)

        def search_space(self) -> dict[str, Space]:
            """Learning rate, beta and the latent dimensions."""
            return {
                "learning_rate": LogUniform(low=1e-4, high=3e-3),
                "beta": LogUniform(low=0.1, high=4.0),
                "latent_dim": IntRange(low=8, high=256, log=True),
            }

    config: Config

    def make_network(self, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
        """Encoder and decoder; calling it decodes."""
        return Autoencoder(image_shape, self.config.hidden_dim, self.config.latent_dim, num_classes)

    def make_trainee(self, network: nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> Trainee:
        """Adam on the evidence bound."""
        assert isinstance(network, Autoencoder)
        return _Ascent(self.config, network)

    def loss(self, images: ImageSet, *, seed: int, runtime: Runtime) -> np.ndarray:
        """Negative evidence bound of each image in nats, given its label, with beta 1: float32 (N,).

        The mean over a few draws of z by `seed`, the same for all images: what one gets does not hang on its place.

        Raises:
            Stopped: the runtime asked for it.
        """
        network = self._network.to(runtime.device)
        assert isinstance(network, Autoencoder)
        noise = torch.Generator().manual_seed(derive(seed, "loss"))
        draws = torch.randn((_LOSS_DRAWS, self.config.latent_dim), generator=noise).to(runtime.device)
        losses = np.empty(len(images), dtype=np.float32)
        for start in range(0, len(images), _LOSS_BATCH):
            if runtime.stopped():
                raise Stopped(f"vae stopped after the loss of {start} of {len(images)} images")
            # The last batch is filled up: the rounding of float kernels depends on the size of the batch.
            rows = np.minimum(np.arange(start, start + _LOSS_BATCH), len(images) - 1)
            x_NCHW = torch.from_numpy(to_unit_range(images.pixels[rows])).to(runtime.device)
            labels = torch.tensor(images.labels[rows]).to(runtime.device)
            with torch.no_grad():
                terms = [torch.stack(network.bound(x_NCHW, labels, draw.expand(_LOSS_BATCH, -1))) for draw in draws]
            bounds = torch.stack(terms).sum(dim=1).mean(dim=0).cpu().numpy()
            losses[start : start + _LOSS_BATCH] = bounds[: len(images) - start]
        return losses


class Autoencoder(nn.Module):
    """Encoder P + K -> hidden -> 2 L (mean, log variance), decoder L + K -> hidden -> P."""

    def __init__(self, image_shape: tuple[int, int, int], hidden_dim: int, latent_dim: int, num_classes: int) -> None:
        super().__init__()
        height, width, channels = image_shape
        num_values = height * width * channels
        self._shape_CHW, self._num_classes = (channels, height, width), num_classes
        self.encoder = _layers(num_values + num_classes, hidden_dim, 2 * latent_dim)
        self.decoder = _layers(latent_dim + num_classes, hidden_dim, num_values)

    def forward(self, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean images of the latent vectors: (N, C, H, W) in [-1, 1]."""
        logits_NP: torch.Tensor = self.decoder(self._beside(z, labels))
        return (2.0 * logits_NP.float().sigmoid() - 1.0).view(-1, *self._shape_CHW)

    def bound(
        self, x_NCHW: torch.Tensor, labels: torch.Tensor, noise: torch.Generator | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstruction and Kullback-Leibler term of the negative evidence bound, in nats: two of shape (N,).

        noise: what standard normal draws (N, L) come from, or the draws.
        """
        x_NP = x_NCHW.flatten(1) * 0.5 + 0.5
        mean, log_variance = self.encoder(self._beside(x_NP, labels)).float().chunk(2, dim=1)
        if isinstance(noise, torch.Generator):
            noise = torch.randn(mean.shape, generator=noise).to(mean.device)
        logits_NP = self.decoder(self._beside(mean + (0.5 * log_variance).exp() * noise, labels)).float()
        reconstruction = F.binary_cross_entropy_with_logits(logits_NP, x_NP, reduction="none").sum(dim=1)
        divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).sum(dim=1)
        return reconstruction, divergence

    def _beside(self, values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if not self._num_classes:
            return values
        return torch.cat([values, F.one_hot(labels, self._num_classes).to(values)], dim=1)


def _layers(num_in: int, num_hidden: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(num_in, num_hidden), nn.LeakyReLU(), nn.Linear(num_hidden, num_out))


class _Ascent:
    """The autoencoder and its optimiser."""

    def __init__(self, config: Vae.Config, network: Autoencoder) -> None:
        self._config, self._network = config, network
        self._adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
        self.modules: Mapping[str, nn.Module] = {"network": network}
        self.optimisers: Mapping[str, torch.optim.Optimizer] = {"adam": self._adam}

    def step(
        self, x_NCHW: torch.Tensor, labels: torch.Tensor, *, step: int, noise: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Go down the negative bound of one batch."""
        x_NCHW = self._config.mirrored(x_NCHW, noise)
        with self._config.autocast(x_NCHW.device.type):
            reconstruction, divergence = (term.mean() for term in self._network.bound(x_NCHW, labels, noise))
        loss = reconstruction + self._config.beta * divergence
        self._adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        return {"loss": loss.detach(), "reconstruction": reconstruction.detach(), "divergence": divergence.detach()}
