"""Dark hairs of dermoscopic images painted over, in the manner of DullRazor.

As there (Lee et al. 1997, doi 10.1016/S0010-4825(97)00020-6) a morphological closing with lines of several directions
fills dark structures narrower than the lines, and what it fills by much is a hair if it is long. The place is then
inpainted (Telea 2004, doi 10.1080/10867651.2004.10487596). Thin dark lines of a lesion's own may go too.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from medsynth_ray.data.preprocess._vision import gray_of, opencv, shrunk
from medsynth_ray.protocols import Component, ComponentConfig

SEARCH_PX = 1024
"""Of larger images hairs are found, and painted over, on a copy of this size; all other pixels stay as they are."""
INPAINT_RADIUS_PX = 3


class HairRemoval(Component):
    """Replaces thin, long, dark structures by what surrounds them; an image without any is unchanged."""

    class Config(ComponentConfig):
        """What counts as a hair."""

        max_width_share: float = Field(default=0.02, gt=0.0, le=0.2)
        """A hair is narrower than this share of the image's width."""
        min_length_share: float = Field(default=0.1, ge=0.0, le=1.0)
        """A hair, or a tangle of them, spans at least this share of the image's width."""
        min_contrast_levels: int = Field(default=12, ge=1, le=255)
        """A hair is darker than what surrounds it by at least this much, of 255 levels."""

    config: Config

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return an image of the same size, changed at the hairs alone.

        Raises:
            ConfigError: OpenCV is not installed.
        """
        small, _ = shrunk(pixels, SEARCH_PX)
        hairs = self._find(gray_of(small))
        if not hairs.any():
            return pixels
        cv2 = opencv()
        size = (pixels.shape[1], pixels.shape[0])
        painted = cv2.inpaint(small, hairs, INPAINT_RADIUS_PX, cv2.INPAINT_TELEA)
        where = cv2.resize(hairs, size, interpolation=cv2.INTER_NEAREST) > 0
        out = np.array(pixels)
        out[where] = cv2.resize(painted, size, interpolation=cv2.INTER_LINEAR)[where]
        return out

    def _find(self, gray: np.ndarray) -> np.ndarray:
        """255 at hairs, one pixel wider than they are dark; 0 elsewhere."""
        cv2 = opencv()
        lines = _lines(max(3, round(self.config.max_width_share * gray.shape[1]) | 1))
        filled = np.max([cv2.morphologyEx(gray, cv2.MORPH_BLACKHAT, line) for line in lines], axis=0)
        dark = (filled >= self.config.min_contrast_levels).astype(np.uint8)
        _, regions, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=8)
        long = np.hypot(stats[:, 2], stats[:, 3]) >= self.config.min_length_share * gray.shape[1]
        long[0] = False
        hairs: np.ndarray = cv2.dilate(255 * long[regions].astype(np.uint8), np.ones((3, 3), np.uint8))
        return hairs


def _lines(length: int) -> list[np.ndarray]:
    """Structuring elements, lines through a square of odd `length` px: across, down and both diagonals."""
    diagonal = np.eye(length, dtype=np.uint8)
    return [
        np.ones((1, length), np.uint8),
        np.ones((length, 1), np.uint8),
        diagonal,
        np.ascontiguousarray(diagonal[::-1]),
    ]
