"""A feature space that is one torch network: batches of one fixed size, so that row i depends on image i alone.

Matrix products may round differently for another number of rows; the last batch is therefore filled up with black
images, and a batch never shrinks. Images of different sizes may share a batch: `embed_each` scales one by one.
Letters in names: N images, H x W pixels, C channels.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.models import PretrainedCfg
from torch import nn

from medsynth_ray.checkpoints import timm_pretrained
from medsynth_ray.errors import ConfigError, Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, Runtime

_BLACK = np.zeros((32, 32, 1), dtype=np.uint8)


class NetworkSpace(Component):
    """Base of spaces that are a network; `config` has `batch_size`. The network is loaded on first use and kept."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._network: nn.Module | None = None

    def make_network(self, runtime: Runtime) -> nn.Module:
        """The network; it maps what `prepare` gives to (N, D). Torch's global generator is seeded."""
        raise TypeError(f"{type(self).__name__} does not say what its network is")

    def prepare(self, pixels_NHWC: np.ndarray) -> torch.Tensor:
        """uint8 pixels -> the network's input, float32 (N, 3, H', W')."""
        raise TypeError(f"{type(self).__name__} does not say what its network is fed")

    def embed(self, images: ImageSet, *, runtime: Runtime) -> np.ndarray:
        """Features float32 (N, D)."""
        buffer = np.zeros((self.config.batch_size, *images.image_shape), dtype=np.uint8)

        def batch(start: int) -> torch.Tensor:
            part = images.pixels[start : start + len(buffer)]
            buffer[: len(part)], buffer[len(part) :] = part, 0
            return self.prepare(buffer)

        return self._embedded(batch, len(images), runtime)

    def embed_each(self, pixels: Sequence[np.ndarray], *, runtime: Runtime) -> np.ndarray:
        """Features float32 (N, D) of uint8 (H, W, 1 or 3) images of any sizes."""
        size = self.config.batch_size

        def batch(start: int) -> torch.Tensor:
            part = [*pixels[start : start + size], *[_BLACK] * size][:size]
            return torch.cat([self.prepare(np.array(image)[None]) for image in part])

        return self._embedded(batch, len(pixels), runtime)

    def _embedded(self, batch: Callable[[int], torch.Tensor], num: int, runtime: Runtime) -> np.ndarray:
        """Features of `num` images; batch: first image -> the network's input for a full batch."""
        with _own_state(runtime.num_threads), torch.inference_mode():
            if self._network is None:
                network = self.make_network(runtime).eval()
                self._network = network.to(runtime.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            return np.concatenate(list(self._batches(self._network, batch, num, runtime)))

    def _batches(
        self, network: nn.Module, batch: Callable[[int], torch.Tensor], num: int, runtime: Runtime
    ) -> Iterator[np.ndarray]:
        for start in range(0, max(num, 1), self.config.batch_size):
            if runtime.stopped():
                raise Stopped(f"asked to stop after {start} of {num} images were embedded")
            stop = min(start + self.config.batch_size, num)
            x_NCHW = batch(start).contiguous(memory_format=torch.channels_last)
            yield network(x_NCHW.to(runtime.device))[: stop - start].float().cpu().numpy()
            runtime.progress(stop, num, "images embedded")


def resized(pixels_NHWC: np.ndarray, resolution: int) -> torch.Tensor:
    """Scale uint8 (N, H, W, C), bicubic and antialiased, to float32 (N, 3, resolution, resolution) in [0, 255].

    Gray images get three equal channels.
    """
    x_NCHW = torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2).float()
    if x_NCHW.shape[2:] != (resolution, resolution):
        x_NCHW = F.interpolate(x_NCHW, size=(resolution, resolution), mode="bicubic", antialias=True).clamp_(0, 255)
    return x_NCHW.expand(-1, 3, -1, -1)


def timm_settings(name: str) -> Any:
    """What timm knows of a model without making it: mean, std, input size, name of its head.

    Raises:
        ValueError: timm has no such model; the nearest is named.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 1)
        raise ValueError(f"timm has no model {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return timm.get_pretrained_cfg(name) or PretrainedCfg()


def timm_network(name: str, weights: Path | None, *, resolution: int, num_outputs: int = 0) -> nn.Module:
    """A timm model, without its head unless that has `num_outputs`; weights None: random, by torch's global generator.

    Raises:
        ConfigError: the file cannot be read, or is not of this model.
    """
    cfg = timm_settings(name)
    options: dict[str, Any] = {"img_size": resolution} if cfg.fixed_input_size else {}
    if weights is None:
        return timm.create_model(name, num_classes=num_outputs, **options)
    network, num_classes = timm_pretrained(name, weights, **options)
    if num_outputs and num_outputs != num_classes:
        raise ConfigError(f"weights {str(weights)!r} do not fit {name}: {num_classes} outputs, expected {num_outputs}")
    if not num_outputs:
        cast(Any, network).reset_classifier(0)
    return network


@contextmanager
def _own_state(num_threads: int) -> Iterator[None]:
    """Own random state and threads, full float32, deterministic kernels; what was set before comes back."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        with (
            torch.random.fork_rng(devices=range(torch.cuda.device_count())),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        ):
            torch.manual_seed(0)
            yield
    finally:
        torch.set_num_threads(before)
