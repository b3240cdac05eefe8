"""One frame of a DICOM file to 8 bits: modality transform, then window, then MONOCHROME1 turned round (PS3.3 C.11)."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from scipy.special import expit

from medsynth_ray.data._refused import Refused
from medsynth_ray.data.adapters._dicom_tags import GROUPS, flatten, pydicom


def frame_pixels(file: BinaryIO, frame: int, window: tuple[float, float] | None) -> np.ndarray:
    """uint8 (H, W), or (H, W, 3) RGB, of frame number `frame` (from 0). window: (centre, width), None: the file's.

    Raises:
        Refused: there is no window where one is needed, or it makes no sense. pydicom raises what `broken` lists.
    """
    pixels, dataset = pydicom(".pixels"), pydicom().Dataset()
    groups = [pydicom(".tag").Tag(name) for name in GROUPS]
    array = pixels.pixel_array(file, ds_out=dataset, specific_tags=groups, index=frame)
    dataset = flatten(dataset, frame)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        array = pixels.apply_color_lut(array, dataset)[..., :3]
        return np.asarray(array if array.dtype == np.uint8 else array >> 8, dtype=np.uint8)
    if array.ndim == 3:
        return _scaled(array, 0.0, 2.0 ** int(dataset.BitsStored) - 1.0)
    shown = _shown(pixels, array, dataset, window)
    return 255 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


def windowed(values: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Values to uint8 through a VOI function: LINEAR, LINEAR_EXACT (C.11.2.1.3.2) or SIGMOID (C.11.2.1.3.1).

    Raises:
        Refused: width below 1 (LINEAR), not above 0 (others), or another function.
    """
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1.0
    if width < 0 or (width == 0 and function != "LINEAR"):
        raise Refused("unreadable", f"window centre {centre:g}, width {width:g} ({function}); set data.voi_window")
    if function == "SIGMOID":
        return _scaled(expit(4.0 * (values - centre) / width), 0.0, 1.0)
    if function not in ("LINEAR", "LINEAR_EXACT"):
        raise Refused("unreadable", "VOI LUT function that is none of LINEAR, LINEAR_EXACT, SIGMOID")
    if width == 0:
        return np.where(values > centre, 255, 0).astype(np.uint8)
    return _scaled(values, centre - width / 2.0, centre + width / 2.0)


def _shown(pixels: Any, array: np.ndarray, dataset: Any, window: tuple[float, float] | None) -> np.ndarray:
    values = pixels.apply_modality_lut(array, dataset)
    if window is not None:
        return windowed(values, *window)
    if dataset.get("VOILUTSequence"):
        table = dataset.VOILUTSequence[0].LUTDescriptor
        return _scaled(pixels.apply_voi(np.rint(values).astype(np.int64), dataset), 0.0, 2.0 ** int(table[2]) - 1.0)
    if "WindowCenter" in dataset and "WindowWidth" in dataset:
        centre, width = (_first(dataset[name].value) for name in ("WindowCenter", "WindowWidth"))
        return windowed(values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR").upper())
    return _scaled(values, *_range(pixels, dataset))


def _range(pixels: Any, dataset: Any) -> tuple[float, float]:
    """The smallest and largest value that the stored bits can hold, after the modality transform."""
    if dataset.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(dataset.ModalityLUTSequence[0].LUTDescriptor[2]) - 1.0
    if "BitsStored" not in dataset or int(dataset.BitsStored) > 32:
        raise Refused("high_depth", "floating point and no window in the file; set data.voi_window: [centre, width]")
    bits, signed = int(dataset.BitsStored), int(dataset.get("PixelRepresentation") or 0)
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1], dtype=np.int64)
    low, high = sorted(map(float, pixels.apply_modality_lut(ends, dataset)))
    return low, high


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """[low, high] to [0, 255], rounded to nearest, what lies outside clipped."""
    if (low, high) == (0.0, 255.0) and values.dtype == np.uint8:
        return values
    return np.rint(np.clip((values.astype(np.float64) - low) * (255.0 / (high - low)), 0.0, 255.0)).astype(np.uint8)


def _first(value: Any) -> float:
    """The first of several windows, which is the one meant to be shown first."""
    return float(value[0] if isinstance(value, list | tuple) or hasattr(value, "append") else value)
