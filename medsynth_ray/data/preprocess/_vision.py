"""What the steps share: OpenCV, small copies to search on, squares, and Otsu's threshold."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from medsynth_ray.errors import ConfigError


def opencv() -> Any:
    """The module cv2, kept to one thread: images are decoded in several threads already.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        raise ConfigError(
            f"data.preprocess: this step needs OpenCV ({error}); pip install 'medsynth-ray[medical]'"
        ) from error
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    return cv2


def shrunk(pixels: np.ndarray, max_px: int) -> tuple[np.ndarray, float]:
    """A copy whose longer side is at most `max_px`, averaged over areas, and by how much it is smaller (>= 1)."""
    height, width = pixels.shape[:2]
    factor = max(1.0, max(height, width) / max_px)
    if factor == 1.0:
        return np.array(pixels), 1.0
    cv2 = opencv()
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    return cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA), factor


def gray_of(pixels: np.ndarray) -> np.ndarray:
    """Luma of RGB, uint8 (H, W); gray images as they are."""
    cv2 = opencv()
    contiguous = np.ascontiguousarray(pixels)
    gray: np.ndarray = contiguous if pixels.ndim == 2 else cv2.cvtColor(contiguous, cv2.COLOR_RGB2GRAY)
    return gray


def square(pixels: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """The square of `side` px whose corner is (top, left); black where it leaves the image."""
    out = np.zeros((side, side, *pixels.shape[2:]), dtype=pixels.dtype)
    rows = slice(max(top, 0), max(min(top + side, pixels.shape[0]), 0))
    columns = slice(max(left, 0), max(min(left + side, pixels.shape[1]), 0))
    part = pixels[rows, columns]
    first_row, first_column = rows.start - top, columns.start - left
    out[first_row : first_row + part.shape[0], first_column : first_column + part.shape[1]] = part
    return out


def otsu(values: np.ndarray) -> tuple[int, float]:
    """Otsu's threshold of uint8 values (doi 10.1109/TSMC.1979.4310076), and the difference of the means it parts.

    Values above the threshold are the upper class. (0, 0.0) where there is nothing to part.
    """
    counts = np.bincount(values.ravel(), minlength=256).astype(np.float64)
    below, sums = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    above = below[-1] - below
    parted = (below > 0) & (above > 0)
    if not parted.any():
        return 0, 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.where(parted, (sums[-1] - sums) / above - sums / below, 0.0)
    level = int(np.argmax(below * above * step**2))
    return level, float(step[level])
