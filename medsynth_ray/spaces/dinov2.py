"""DINOv2 ViT-S/14 (arXiv 2304.07193): features that follow what people see more closely than Inception's.

"Exposing flaws of generative model evaluation metrics" (arXiv 2306.04675) recommends DINOv2 in Inception's place, but
its code (dgm-eval) uses ViT-L/14, a model of 14 times as many parameters: numbers of this space do not compare with
those. As there, an image is stretched to 224 px and its class token after the last norm is taken. timm's default of
518 px has 1,369 patches instead of 256, at five times the work and more.
"""

from __future__ import annotations

from pydantic import Field
from timm.layers.layer_scale import LayerScale
from torch import nn

from medsynth_ray.protocols import Runtime
from medsynth_ray.spaces._timm import TimmConfig, TimmSpace


class Dinov2(TimmSpace):
    """384 features: the class token of DINOv2 ViT-S/14."""

    class Config(TimmConfig):
        """Settings. Weights: timm's `vit_small_patch14_dinov2.lvd142m`."""

        resolution: int = Field(default=224, ge=28, le=1036, multiple_of=14)
        """Side in pixels to which images are scaled; numbers of different sides do not compare."""

        @property
        def label(self) -> str:
            """What numbers of this space are named by."""
            return self.labelled("dinov2_vits14" + ("" if self.resolution == 224 else f"_{self.resolution}px"))

        @classmethod
        def tiny(cls) -> Dinov2.Config:
            """Random weights, 28 px, 4 at a time."""
            return cls(random_init=True, resolution=28, batch_size=4)

    config: Config

    @property
    def model(self) -> str:
        """Name in timm."""
        return "vit_small_patch14_dinov2"

    def make_network(self, runtime: Runtime) -> nn.Module:
        """The model with the weights that the settings name."""
        network = super().make_network(runtime)
        for module in network.modules() if self.config.random_init else ():
            if isinstance(module, LayerScale):
                nn.init.ones_(module.gamma)  # at its start of 1e-5 the class token says nothing of the image
        return network
