"""The image tower of OpenAI's CLIP ViT-B/32 (arXiv 2103.00020), with its projection: what `encode_image` gives.

Of those features Kynkaanniemi et al. (arXiv 2203.06026) make a Frechet distance that ImageNet's classes do not steer.
OpenAI trained with QuickGELU: timm's variant without `quickgelu` loads the same file, and gives other features.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from medsynth_ray.spaces._timm import TimmConfig, TimmSpace


class Clip(TimmSpace):
    """512 features: the projected class token of CLIP ViT-B/32."""

    num_outputs: ClassVar[int] = 512

    class Config(TimmConfig):
        """Settings. Weights: timm's `vit_base_patch32_clip_224.openai`, which holds the projection as its head."""

        resolution: Literal[224] = 224
        """Side in pixels to which images are scaled."""

        @property
        def label(self) -> str:
            """What numbers of this space are named by."""
            return self.labelled("clip")

        @classmethod
        def tiny(cls) -> Clip.Config:
            """Random weights, 2 at a time."""
            return cls(random_init=True, batch_size=2)

    config: Config

    @property
    def model(self) -> str:
        """Name in timm."""
        return "vit_base_patch32_clip_quickgelu_224"
