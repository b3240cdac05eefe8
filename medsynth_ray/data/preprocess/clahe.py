"""Contrast-limited adaptive histogram equalisation (Pizer et al. 1987, doi 10.1016/S0734-189X(87)80186-X).

Of RGB images the lightness alone is equalised (L of CIELAB), so that hues stay: they are diagnostic in fundus
photographs and dermoscopy.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from medsynth_ray.data.preprocess._vision import opencv
from medsynth_ray.protocols import Component, ComponentConfig


class Clahe(Component):
    """Equalises lightness tile by tile."""

    class Config(ComponentConfig):
        """How local and how strong."""

        num_tiles: int = Field(default=8, ge=1, le=64)
        """Tiles along width and along height; between their centres the mappings are interpolated."""
        clip_limit: float = Field(default=2.0, ge=0.0)
        """No level counts more than this many times the average, which bounds how much noise grows. 0: no limit."""

    config: Config

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return an image of the same size.

        Raises:
            ConfigError: OpenCV is not installed.
        """
        cv2 = opencv()
        tiles = (self.config.num_tiles, self.config.num_tiles)
        # An object of its own for each call: OpenCV's keeps buffers and is not for several threads.
        equaliser = cv2.createCLAHE(clipLimit=self.config.clip_limit, tileGridSize=tiles)
        contiguous = np.ascontiguousarray(pixels)
        if pixels.ndim == 2:
            equalised: np.ndarray = equaliser.apply(contiguous)
            return equalised
        lab = cv2.cvtColor(contiguous, cv2.COLOR_RGB2LAB)
        lab[..., 0] = equaliser.apply(np.ascontiguousarray(lab[..., 0]))
        rgb: np.ndarray = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
        return rgb
