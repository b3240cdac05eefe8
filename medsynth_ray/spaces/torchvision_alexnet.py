"""AlexNet as torchvision has it (arXiv 1404.5997), up to what its last layer reads.

Dropout is off: an image has one feature vector, which can be kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pydantic import Field
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn
from torchvision.models import alexnet

from medsynth_ray.checkpoints import read_state
from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Runtime
from medsynth_ray.spaces._embed import NetworkSpace, resized
from medsynth_ray.spaces._timm import TimmConfig

HEAD = "classifier.6."
"""The last layer in torchvision's checkpoint, which is left out."""


class TorchvisionAlexnet(NetworkSpace):
    """4096 features: the output of AlexNet's second fully connected layer, after its ReLU."""

    class Config(TimmConfig):
        """Settings; `weights` is torchvision's `alexnet-owt-7be5be79.pth`, or the same as safetensors."""

        resolution: int = Field(default=224, ge=63, le=1024)
        """Side in pixels to which images are scaled."""

        @property
        def label(self) -> str:
            """What numbers of this space are named by."""
            return self.labelled("torchvision_alexnet")

        @classmethod
        def tiny(cls) -> TorchvisionAlexnet.Config:
            """Random weights, 64 px, 4 at a time."""
            return cls(random_init=True, resolution=64, batch_size=4)

    config: Config

    def make_network(self, runtime: Runtime) -> nn.Module:
        """The network without its last layer."""
        network: Any = alexnet(weights=None)
        network.classifier[6] = nn.Identity()
        if self.config.weights is None:
            _scale_as_he(network)
        else:
            _load(network, runtime.weights(self.config.weights))
        return cast(nn.Module, network)

    def prepare(self, pixels_NHWC: np.ndarray) -> torch.Tensor:
        """Scaled to `resolution`, with ImageNet's mean and standard deviation."""
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) * 255.0 for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
        return (resized(pixels_NHWC, self.config.resolution) - mean) / std


def _scale_as_he(network: nn.Module) -> None:
    """Torch draws weights within 1 / sqrt(fan in), so that features shrink in each layer; He takes sqrt(6) times it."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.mul_(6.0**0.5)


def _load(network: nn.Module, path: Path) -> None:
    state = read_state(path)
    try:
        network.load_state_dict({name: value for name, value in state.items() if not name.startswith(HEAD)})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"weights {str(path)!r} do not fit torchvision's AlexNet: {reason}") from error
