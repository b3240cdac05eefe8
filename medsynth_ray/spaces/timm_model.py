"""Any timm model by name, with weights from a local file: RAD-DINO, a larger DINOv2, a classifier of one's own."""

from __future__ import annotations

from pydantic import Field, field_validator

from medsynth_ray.spaces._embed import timm_settings
from medsynth_ray.spaces._timm import TimmConfig, TimmSpace


class TimmModel(TimmSpace):
    """Pooled features of a timm model without its head."""

    class Config(TimmConfig):
        """Settings."""

        model: str = "resnet50"
        """Name in timm, e.g. `vit_small_patch14_dinov2`."""
        resolution: int = Field(default=224, ge=16, le=2048)
        """Side in pixels to which images are scaled; a ViT needs a multiple of its patch."""

        @field_validator("model")
        @classmethod
        def _known(cls, value: str) -> str:
            timm_settings(value)
            return value

        @property
        def label(self) -> str:
            """What numbers of this space are named by."""
            return self.labelled(f"timm_{self.model}")

        @classmethod
        def tiny(cls) -> TimmModel.Config:
            """The smallest network of timm's, random."""
            return cls(model="test_resnet", random_init=True, resolution=32, batch_size=4)

    config: Config

    @property
    def model(self) -> str:
        """Name in timm."""
        return self.config.model
