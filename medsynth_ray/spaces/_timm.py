"""What spaces that are a timm model share: weights from a local file or random ones, scaling, normalisation."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from medsynth_ray.protocols import ComponentConfig, Need, Runtime, Weights
from medsynth_ray.spaces._embed import NetworkSpace, resized, timm_network, timm_settings


class TimmConfig(ComponentConfig):
    """Settings of every timm model."""

    weights: str | None = Field(default=None, json_schema_extra={"key": False})
    """Checkpoint of this model, safetensors or a file that torch loads with weights_only: local path, or a name of
    `medsynth weights list`."""
    random_init: bool = False
    """True: no weights, and features of random layers (the same in every process). Never the reported number."""
    batch_size: int = Field(default=16, ge=1)
    """Images at a time."""

    @model_validator(mode="after")
    def _weights_or_random(self) -> Self:
        if (self.weights is None) != self.random_init:
            raise ValueError(
                "give `weights` (a local file or a registered name) or random_init: true, not both or neither; "
                f"got weights={self.weights!r}, random_init={self.random_init}"
            )
        return self

    def labelled(self, name: str) -> str:
        """`name`, or what says that it is random."""
        return f"{name}_random" if self.random_init else name

    def needs(self) -> tuple[Need, ...]:
        """The weights file."""
        return () if self.weights is None else (Weights(self.weights),)


class TimmSpace(NetworkSpace):
    """Base of spaces that are one timm model, `model`; `config` is a TimmConfig with a `resolution`."""

    num_outputs: ClassVar[int] = 0
    """Of the head, which is kept then. 0: without its head."""

    @property
    def model(self) -> str:
        """Name in timm."""
        raise TypeError(f"{type(self).__name__} does not say which model it is")

    def make_network(self, runtime: Runtime) -> nn.Module:
        """The model with the weights that the settings name."""
        weights = None if self.config.weights is None else runtime.weights(self.config.weights)
        return timm_network(self.model, weights, resolution=self.config.resolution, num_outputs=self.num_outputs)

    def prepare(self, pixels_NHWC: np.ndarray) -> torch.Tensor:
        """Scaled to `resolution`, with the model's own mean and standard deviation."""
        settings = timm_settings(self.model)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) * 255.0 for v in (settings.mean, settings.std))
        return (resized(pixels_NHWC, self.config.resolution) - mean) / std
