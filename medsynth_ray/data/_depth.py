"""More than 8 bits a channel: an explicit window turns them into 8, or the image is refused with the range found."""

from __future__ import annotations

import struct
from typing import Literal

import numpy as np
from PIL import Image

from medsynth_ray.data._refused import Refused
from medsynth_ray.errors import ConfigError

Window = tuple[float, float] | Literal["full"] | None
Range = tuple[float, float] | None
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 258, 262, 274, 339
"""TIFF tags."""


def check_window(window: Window) -> None:
    """See that the window opens upwards.

    Raises:
        ConfigError: low is not below high.
    """
    if isinstance(window, tuple) and not window[0] < window[1]:
        raise ConfigError(f"data.window: low must be below high, got [{window[0]:g}, {window[1]:g}]")


def windowed(raw: np.ndarray, window: Window, full: Range, what: str) -> tuple[np.ndarray, str]:
    """(uint8 array of the shape of `raw`, share of pixels outside the window in words).

    raw: integers or floats. full: what "full" means for them, None for floats. what: of how many bits they are.

    Raises:
        Refused: no window, or "full" for floats: names the values found; or a value is NaN or infinite.
    """
    values = np.asarray(raw, dtype=np.float64)
    if not np.isfinite(values).all():
        raise Refused("high_depth", f"{what}, holds NaN or infinite values")
    found = f"values {values.min():g} to {values.max():g}"
    if window is None or (window == "full" and full is None):
        choice = "data.window: [low, high]" + (" or full" if full else "")
        raise Refused("high_depth", f"{what}, {found}; 8 bits are allowed, so set {choice}")
    limits = full if window == "full" else window
    assert limits is not None and not isinstance(limits, str)
    low, high = limits
    outside = float(((values < low) | (values > high)).mean())
    shown = np.rint(np.clip((values - low) / (high - low), 0.0, 1.0) * 255.0).astype(np.uint8)
    return shown, f"{outside:.1%} of the pixels outside [{low:g}, {high:g}]"


def bits_per_channel(image: Image.Image, data: bytes) -> int:
    """Pillow reads many deep colour images as 8-bit without a word, so the header is asked where there is one."""
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))))  # type: ignore[attr-defined]
    if image.format == "JPEG2000":
        return (data[data.find(b"\xff\x51") + 40] & 0x7F) + 1  # Ssiz of the first component
    if image.format == "PPM" and image.mode != "F":
        arguments = image.tile[0].args  # type: ignore[attr-defined]
        deep = isinstance(arguments, tuple) and int(arguments[1]) > 255
        return 16 if deep or image.mode == "I" else 8
    return {"I": 32, "F": 32}.get(image.mode, 16 if image.mode.startswith("I;16") else 8)


def full_range(image: Image.Image, bits: int) -> Range:
    """The whole range of the stored type; None for floats."""
    kind = image.tag_v2.get(_SAMPLE_FORMAT, 1) if image.format == "TIFF" else 1  # type: ignore[attr-defined]
    kind = kind[0] if isinstance(kind, tuple) else kind
    if image.mode == "F" or kind == 3:
        return None
    if kind == 2:
        return -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    # Pillow scales what is not TIFF up to 16 bits.
    return 0.0, 2.0 ** (bits if image.format == "TIFF" else 16) - 1


def white_is_zero(image: Image.Image) -> bool:
    """Whether the smallest values are the brightest, which Pillow undoes for 8 bits only."""
    return image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0  # type: ignore[attr-defined]


def without_orientation(data: bytes) -> bytes:
    """The TIFF (or BigTIFF) with its orientation set to upright: OpenCV applies some orientations and not others."""
    order = "<" if data[:2] == b"II" else ">"
    if struct.unpack_from(order + "H", data, 2) == (42,):
        place, count, entry, value = "4xI", "H", 12, 8
    else:
        place, count, entry, value = "8xQ", "Q", 20, 12
    (start,) = struct.unpack_from(order + place, data)
    (num,) = struct.unpack_from(order + count, data, start)
    first, made = start + struct.calcsize(count), bytearray(data)
    for at in range(first, first + num * entry, entry):
        if struct.unpack_from(order + "H", data, at) == (_ORIENTATION,):
            struct.pack_into(order + "H", made, at + value, 1)
    return bytes(made)


def array_range(raw: np.ndarray) -> Range:
    """The whole range of an array's type; None for floats."""
    if raw.dtype.kind == "f":
        return None
    return float(np.iinfo(raw.dtype).min), float(np.iinfo(raw.dtype).max)


def deep_colour(data: bytes, window: Window) -> np.ndarray:
    """Pixels of a colour image of more than 8 bits a channel, which Pillow cannot read: (H, W, 3 or 4), RGB order.

    Raises:
        Refused: damaged; or OpenCV is missing and there is no window, so that nothing could be done with them.
        ConfigError: OpenCV is missing, and there is a window.
    """
    try:
        import cv2
    except ImportError as error:
        if window is None:
            raise Refused("high_depth", "more than 8 bits a channel, in colour; set data.window") from error
        raise ConfigError("colour of more than 8 bits needs OpenCV: pip install 'medsynth-ray[medical]'") from error
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise Refused("unreadable", "damaged, or of a kind of colour that cannot be read")
    order = [2, 1, 0, 3][: pixels.shape[2]]
    return np.ascontiguousarray(pixels[..., order])
