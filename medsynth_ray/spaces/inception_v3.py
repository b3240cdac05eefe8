"""Inception-v3 as FID uses it: NVIDIA's TorchScript `inception-2015-12-05.pt`, clean-fid's resize (arXiv 2104.11222).

Only a Frechet distance in this space, with the real weights, may be called FID. TorchScript is code: a file is loaded
only if its sha256 is the expected one, so nothing runs that was not vouched for.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cleanfid.resize import make_resizer
from pydantic import Field, model_validator
from torch import nn
from torchvision.models import inception_v3

from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import ComponentConfig, Need, Runtime, Weights
from medsynth_ray.spaces._embed import NetworkSpace

OFFICIAL_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
"""Of `inception-2015-12-05.pt` at nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics (95,607,719 B)."""


class InceptionV3(NetworkSpace):
    """2048 pooled features of Inception-v3 at 299 px."""

    class Config(ComponentConfig):
        """Settings."""

        weights: str | None = Field(default=None, json_schema_extra={"key": False})
        """`inception-2015-12-05.pt`: local path, or a name of `medsynth weights list`."""
        sha256: str = Field(default=OFFICIAL_SHA256, pattern=r"^[0-9a-f]{64}$")
        """What the file's sha256 must be. Change it only for a file that you made: loading it runs its code."""
        random_init: bool = False
        """True: no weights, and features of random layers (the same in every process). Never FID."""
        batch_size: int = Field(default=8, ge=1)
        """Images at a time."""

        @model_validator(mode="after")
        def _weights_or_random(self) -> InceptionV3.Config:
            if (self.weights is None) != self.random_init:
                raise ValueError(
                    "give `weights` (the local path of inception-2015-12-05.pt) or random_init: true, not both or "
                    f"neither; got weights={self.weights!r}, random_init={self.random_init}"
                )
            return self

        @property
        def label(self) -> str:
            """What numbers of this space are named by."""
            return "inception_v3_random" if self.random_init else "inception_v3"

        def needs(self) -> tuple[Need, ...]:
            """The weights file."""
            return () if self.weights is None else (Weights(self.weights),)

        @classmethod
        def tiny(cls) -> InceptionV3.Config:
            """Random weights, 2 at a time."""
            return cls(random_init=True, batch_size=2)

    config: Config

    def __init__(self, config: Config) -> None:
        """Make clean-fid's resizer once."""
        super().__init__(config)
        self._resize = make_resizer("PIL", False, "bicubic", (299, 299))

    def make_network(self, runtime: Runtime) -> nn.Module:
        """The layers of the TorchScript file, or a random Inception-v3."""
        if self.config.weights is None:
            return _random_network()
        return _verified_layers(runtime.weights(self.config.weights), self.config.sha256)

    def prepare(self, pixels_NHWC: np.ndarray) -> torch.Tensor:
        """clean-fid's float bicubic resize, then (x - 128) / 128 as the original graph does."""
        rgb = np.broadcast_to(pixels_NHWC, (*pixels_NHWC.shape[:3], 3))
        x_NHWC = np.stack([self._resize(image) for image in rgb])
        return (torch.from_numpy(x_NHWC).permute(0, 3, 1, 2) - 128.0) / 128.0


class _Pooled(nn.Module):
    """The TorchScript's `layers`, flattened to (N, 2048)."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.layers(x_NCHW)
        return features.flatten(1)


def _verified_layers(path: Path, sha256: str) -> nn.Module:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ConfigError(f"weights {str(path)!r}: sha256 is {found}, expected {sha256}; not loaded")
    script: Any = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return _Pooled(script.layers)


def _random_network() -> nn.Module:
    # Torch's default initialisation lets Inception's features collapse to a constant; He's keeps their scale.
    network: Any = inception_v3(weights=None, aux_logits=False, init_weights=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    network.fc = nn.Identity()
    return _Pooled(network)
