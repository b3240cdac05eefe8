"""Local average subtracted: the "Gaussian filtered" look of the APTOS and EyePACS fundus data.

The recipe is Ben Graham's, of the Kaggle diabetic retinopathy competition of 2015: 4 I - 4 G(I) + 128, G a Gaussian
blur whose sigma is a thirtieth of the fundus's radius, then the outer tenth of the radius, where the rim of the
photograph rings, set to gray. It removes differences of lighting and of camera, and with them all absolute colour.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from medsynth_ray.data.preprocess._vision import opencv
from medsynth_ray.protocols import Component, ComponentConfig

GRAY = 128.0


class GaussianFilter(Component):
    """Subtracts the blurred image and amplifies what is left, around mid-gray."""

    class Config(ComponentConfig):
        """Scale and strength."""

        sigma_share: float = Field(default=1.0 / 60.0, gt=0.0, le=0.5)
        """Standard deviation of the blur, as a share of the width."""
        gain: float = Field(default=4.0, gt=0.0, le=32.0)
        """What is left after the subtraction is multiplied by this."""
        radius_share: float | None = Field(default=None, gt=0.0, le=1.0)
        """Gray outside a central disc with this share of half the shorter side as its radius (0.9 in the recipe, for
        images cropped to the fundus, e.g. by circle_crop). None: nothing is cut off."""

    config: Config

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return an image of the same size.

        Raises:
            ConfigError: OpenCV is not installed.
        """
        cv2 = opencv()
        values = np.ascontiguousarray(pixels, dtype=np.float32)
        blurred = cv2.GaussianBlur(values, (0, 0), self.config.sigma_share * pixels.shape[1])
        filtered = np.float32(self.config.gain) * (values - blurred) + np.float32(GRAY)
        if self.config.radius_share is not None:
            filtered[_outside(pixels.shape[0], pixels.shape[1], self.config.radius_share)] = GRAY
        rounded: np.ndarray = np.rint(np.clip(filtered, 0.0, 255.0)).astype(np.uint8)
        return rounded


def _outside(height: int, width: int, radius_share: float) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    squared = (y - (height - 1) / 2) ** 2 + (x - (width - 1) / 2) ** 2
    outside: np.ndarray = squared > (radius_share * min(height, width) / 2) ** 2
    return outside
