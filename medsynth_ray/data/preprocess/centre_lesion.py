"""Crop a square around the lesion of a dermoscopic image.

Derm-T2IM (arXiv 2401.05159) centres lesions before a generator is fitted and does not say how; this is our way. Pigment
is dark in at least one channel, and saturated colour too: the lesion is the largest connected region whose darkest
channel is below Otsu's threshold. The dark corners of a dermoscope are set aside first.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from medsynth_ray.data.preprocess._vision import opencv, otsu, shrunk, square
from medsynth_ray.protocols import Component, ComponentConfig

SEARCH_PX = 256
"""The lesion is searched on a copy of this size."""
Box = tuple[float, float, float]
"""Centre (y, x) and longer side of a bounding box, in px."""


class CentreLesion(Component):
    """Crops to the lesion with a margin, as near to its centre as the image allows; unchanged where none is found."""

    class Config(ComponentConfig):
        """What counts as a lesion, and how much skin stays around it."""

        margin_share: float = Field(default=0.25, ge=0.0, le=4.0)
        """Skin on each side, as a share of the lesion's longer side."""
        min_contrast_levels: float = Field(default=20.0, ge=0.0, le=255.0)
        """The lesion must be darker than the skin by this much on average, of 255 levels."""
        min_area_share: float = Field(default=0.005, ge=0.0, lt=1.0)
        """A smaller region, as a share of the image, is a mole, a hair or noise."""
        max_area_share: float = Field(default=0.6, gt=0.0, le=1.0)
        """A larger one is not cropped: there is nothing around it."""

    config: Config

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Return a square image that lies within `pixels`, or `pixels` where no lesion is found.

        Raises:
            ConfigError: OpenCV is not installed.
        """
        small, factor = shrunk(pixels, SEARCH_PX)
        box = self._find(_pigment(small))
        if box is None:
            return pixels
        height, width = pixels.shape[:2]
        side = min(round(box[2] * factor * (1.0 + 2.0 * self.config.margin_share)), height, width)
        top, left = (
            min(max(round((centre + 0.5) * factor - side / 2), 0), length - side)
            for centre, length in ((box[0], height), (box[1], width))
        )
        return square(pixels, top, left, side)

    def _find(self, pigment: np.ndarray) -> Box | None:
        """The lesion's bounding box in an image that is bright where there is pigment."""
        usable = np.ones(pigment.shape, dtype=bool)
        for _ in range(2):
            level, contrast = otsu(pigment[usable])
            dark = (pigment > level) & usable
            corners = _corner_regions(dark)
            if not corners.any():
                break
            usable &= ~corners
        return _largest_box(dark & usable, self._areas(pigment.size)) if contrast >= self._least_contrast() else None

    def _least_contrast(self) -> float:
        return max(self.config.min_contrast_levels, 1.0)

    def _areas(self, num_pixels: int) -> tuple[float, float]:
        return self.config.min_area_share * num_pixels, self.config.max_area_share * num_pixels


def _pigment(pixels: np.ndarray) -> np.ndarray:
    """255 - the darkest channel, smoothed so that hairs and noise do not part or join regions."""
    darkest = pixels if pixels.ndim == 2 else pixels.min(axis=2)
    smooth: np.ndarray = opencv().GaussianBlur(255 - darkest, (0, 0), max(0.5, 0.01 * pixels.shape[1]))
    return smooth


def _corner_regions(mask: np.ndarray) -> np.ndarray:
    """The connected regions that hold a corner of the image."""
    _, regions = opencv().connectedComponents(mask.astype(np.uint8), connectivity=4)
    corners = {int(regions[row, column]) for row in (0, -1) for column in (0, -1)} - {0}
    held: np.ndarray = np.isin(regions, sorted(corners))
    return held


def _largest_box(mask: np.ndarray, areas: tuple[float, float]) -> Box | None:
    cv2 = opencv()
    width = max(3, round(0.02 * mask.shape[1]) | 1)
    opened = cv2.morphologyEx(
        mask.astype(np.uint8), cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    )
    _, _, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if len(stats) < 2:
        return None
    left, top, across, down, area = (float(v) for v in stats[1 + int(np.argmax(stats[1:, 4]))])
    if not areas[0] <= area <= areas[1]:
        return None
    return top + (down - 1) / 2, left + (across - 1) / 2, max(across, down)
