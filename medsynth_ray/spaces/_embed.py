"""A feature space that is one torch network: batches of one fixed size, so that row i depends on image i alone.

Matrix products may round differently for another number of rows; the last batch is therefore filled up with black
images, and a batch never shrinks. Letters in names: N images, H x W pixels, C channels.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import timm
import torch
import torch.nn.functional as F
from timm.models import PretrainedCfg, load_state_dict
from torch import nn

from medsynth_ray.errors import ConfigError, Stopped
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, Runtime


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
        with _own_state(runtime.num_threads), torch.inference_mode():
            if self._network is None:
                network = self.make_network(runtime).eval()
                self._network = network.to(runtime.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            return np.concatenate(list(self._batches(self._network, images, runtime)))

    def _batches(self, network: nn.Module, images: ImageSet, runtime: Runtime) -> Iterator[np.ndarray]:
        size = self.config.batch_size
        buffer = np.zeros((size, *images.image_shape), dtype=np.uint8)
        for start in range(0, max(len(images), 1), size):
            if runtime.stopped():
                raise Stopped(f"asked to stop after {start} of {len(images)} images were embedded")
            part = images.pixels[start : start + size]
            buffer[: len(part)], buffer[len(part) :] = part, 0
            x_NCHW = self.prepare(buffer).contiguous(memory_format=torch.channels_last)
            yield network(x_NCHW.to(runtime.device))[: len(part)].float().cpu().numpy()
            runtime.progress(start + len(part), len(images), "images embedded")


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


def timm_network(name: str, weights: Path | None, *, resolution: int) -> nn.Module:
    """A timm model without its head; weights None: random, by torch's global generator.

    Raises:
        ConfigError: the file is not a checkpoint of weights, or not one of this model.
    """
    cfg = timm_settings(name)
    options: dict[str, Any] = {"img_size": resolution} if cfg.fixed_input_size else {}
    if weights is None:
        return timm.create_model(name, num_classes=0, **options)
    try:
        state = load_state_dict(str(weights), weights_only=True)
        head = cfg.classifier if isinstance(cfg.classifier, str) else cfg.classifier[0]
        # With the checkpoint's own number of classes timm loads strictly; with another it skips what does not fit.
        num_classes = len(state[f"{head}.bias"]) if f"{head}.bias" in state else 0
        options["pretrained_cfg_overlay"] = {"state_dict": state, "num_classes": num_classes, "custom_load": False}
        network: Any = timm.create_model(name, pretrained=True, num_classes=num_classes, **options)
    except RuntimeError as error:
        raise ConfigError(f"weights {str(weights)!r} do not fit {name}: {str(error).splitlines()[0]}") from error
    network.reset_classifier(0)
    return cast(nn.Module, network)


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
