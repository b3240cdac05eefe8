"""Any timm model by name, with weights from a local file: DINOv2, CLIP towers, RAD-DINO, a classifier of one's own."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from medsynth_ray.protocols import ComponentConfig, Need, Runtime, Weights
from medsynth_ray.spaces._embed import NetworkSpace, resized, timm_network, timm_settings


class TimmModel(NetworkSpace):
    """Pooled features of a timm model without its head."""

    class Config(ComponentConfig):
        """Settings."""

        model: str = "resnet50"
        """Name in timm, e.g. `vit_small_patch14_dinov2`."""
        weights: str | None = Field(default=None, json_schema_extra={"key": False})
        """Local checkpoint of this model: safetensors, or a file that torch loads with weights_only."""
        random_init: bool = False
        """True: no weights, and features of random layers (the same in every process). Never the reported number."""
        resolution: int = Field(default=224, ge=16, le=2048)
        """Side in pixels to which images are scaled; a ViT needs a multiple of its patch."""
        batch_size: int = Field(default=16, ge=1)
        """Images at a time."""

        @field_validator("model")
        @classmethod
        def _known(cls, value: str) -> str:
            timm_settings(value)
            return value

        @model_validator(mode="after")
        def _weights_or_random(self) -> TimmModel.Config:
            if (self.weights is None) != self.random_init:
                raise ValueError(
                    "give `weights` (a local file) or random_init: true, not both or neither; "
                    f"got weights={self.weights!r}, random_init={self.random_init}"
                )
            return self

        @property
        def label(self) -> str:
            """What numbers of this space are named by."""
            return f"timm_{self.model}{'_random' if self.random_init else ''}"

        def needs(self) -> tuple[Need, ...]:
            """The weights file."""
            return () if self.weights is None else (Weights(self.weights),)

        @classmethod
        def tiny(cls) -> TimmModel.Config:
            """The smallest network of timm's, random."""
            return cls(model="test_resnet", random_init=True, resolution=32, batch_size=4)

    config: Config

    def make_network(self, runtime: Runtime) -> nn.Module:
        """The headless model."""
        weights = None if self.config.weights is None else runtime.weights(self.config.weights)
        return timm_network(self.config.model, weights, resolution=self.config.resolution)

    def prepare(self, pixels_NHWC: np.ndarray) -> torch.Tensor:
        """Scaled to `resolution`, with the model's own mean and standard deviation."""
        settings = timm_settings(self.config.model)
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) * 255.0 for v in (settings.mean, settings.std))
        return (resized(pixels_NHWC, self.config.resolution) - mean) / std
