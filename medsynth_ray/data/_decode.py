"""One file or array to an 8-bit gray or RGB image, or a reason why not. Nothing is clipped or guessed silently."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medsynth_ray.data._colour import to_gray_or_rgb
from medsynth_ray.data._depth import (
    Window,
    array_range,
    bits_per_channel,
    deep_colour,
    full_range,
    white_is_zero,
    windowed,
    without_orientation,
)
from medsynth_ray.data._refused import Refused as Refused
from medsynth_ray.data._refused import Remarks
from medsynth_ray.errors import ConfigError

Resize = Literal["stretch", "pad", "crop"]
MAX_PIXELS = 64_000_000
"""Checked from the header, before a pixel is decoded."""
EXTENSIONS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF",
    ".bmp": "BMP", ".gif": "GIF", ".webp": "WEBP", ".jp2": "JPEG2000", ".ppm": "PPM", ".pgm": "PPM",
}  # fmt: skip
_FORMATS = tuple(sorted(set(EXTENSIONS.values())))
"""What Pillow may try. Formats that start another program (EPS) are not among them."""
_MAGIC = (
    (0, b"%PDF", "a PDF"), (0, b"PK\x03\x04", "a ZIP archive"), (0, b"\x1f\x8b", "gzip data"), (0, b"\x89HDF", "HDF5"),
    (128, b"DICM", "DICOM"), (344, b"n+1\x00", "NIfTI"), (4, b"ftyphei", "HEIC"), (4, b"ftypmif1", "HEIC"),
    (4, b"ftypavif", "AVIF"), (0, b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
)  # fmt: skip
_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError, MemoryError,
    struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's parsers raise on damaged files."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF orientation -> what turns the stored pixels upright."""


@dataclass(frozen=True)
class Decoded:
    """image: mode L or RGB, upright. digest: of the full-size content, the same for gray stored as L or as RGB.

    remarks: (kind, detail) of what was converted on the way.
    """

    image: Image.Image
    digest: bytes
    remarks: tuple[tuple[str, str], ...]


def decode(source: bytes | np.ndarray, name: str, window: Window = None) -> Decoded:
    """Decode in full. window: how more than 8 bits a channel become 8.

    Raises:
        Refused: empty, damaged, not an image, too large, several frames, or more than 8 bits a channel and no window.
        ConfigError: an optional package is needed for this image and missing.
    """
    remarks: Remarks = []
    try:
        if isinstance(source, np.ndarray):
            opened = _from_array(source, window, remarks)
        else:
            opened = _open(source, name, window, remarks)
        image = to_gray_or_rgb(opened, remarks)
    except ConfigError:  # is a ValueError, too
        raise
    except _BROKEN as error:
        raise Refused("unreadable", f"damaged or cut off ({error})") from error
    image, content = canonical(image)
    digest = hashlib.blake2b(f"{content.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(content).data)
    return Decoded(image, digest.digest(), tuple(remarks))


def shrink(image: Image.Image, size_px: int, channels: int, resize: Resize = "stretch") -> np.ndarray:
    """Resize to uint8 (size_px, size_px, channels): bicubic, antialiased.

    stretch: the aspect ratio is not kept. pad: the whole image, on black. crop: its largest centred square.
    """
    wanted = image.convert("L") if channels == 1 and image.mode == "RGB" else image
    size, bicubic = (size_px, size_px), Image.Resampling.BICUBIC
    if resize == "stretch" or wanted.width == wanted.height:
        made = wanted.resize(size, bicubic)
    else:
        made = (ImageOps.pad if resize == "pad" else ImageOps.fit)(wanted, size, bicubic)
    pixels = np.asarray(made)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], channels, axis=2)


def canonical(image: Image.Image) -> tuple[Image.Image, np.ndarray]:
    """The image as L if its channels are equal everywhere, and its pixels (a sparse look first: most are not)."""
    pixels = np.asarray(image)
    if image.mode == "RGB" and _is_gray(pixels[::16, ::16]) and _is_gray(pixels):
        image = image.getchannel(0)
        pixels = np.asarray(image)
    return image, pixels


def _open(data: bytes, name: str, window: Window, remarks: Remarks) -> Image.Image:
    """The image, upright, at most 8 bits a channel."""
    image = _open_checked(data, name)
    suffix, stored = PurePosixPath(name).suffix.lower(), "JPEG" if image.format == "MPO" else str(image.format)
    if stored != EXTENSIONS.get(suffix, stored):
        remarks.append(("content_type", f"is {stored}"))
    turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    if turn is not None:
        remarks.append(("rotated", "turned upright as its EXIF tag says"))
    bits = bits_per_channel(image, data)
    if bits <= 8:
        image.load()
        return ImageOps.exif_transpose(image)
    return _open_deep(image, data, bits, window, remarks, turn)


def _open_checked(data: bytes, name: str) -> Image.Image:
    if not data:
        raise Refused("unreadable", "0 bytes")
    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise _not_an_image(data, name) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Refused("too_many_pixels", f"{error}; at most {MAX_PIXELS} are read") from error
    if image.width * image.height > MAX_PIXELS:
        raise Refused("too_many_pixels", f"{image.width} x {image.height}; at most {MAX_PIXELS} pixels are read")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise Refused("several_frames", f"{getattr(image, 'n_frames', 1)} frames; save each as its own file")
    return image


def _open_deep(
    image: Image.Image, data: bytes, bits: int, window: Window, remarks: Remarks, turn: Image.Transpose | None
) -> Image.Image:
    what = f"{bits} bits a channel"
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        raw, full = np.asarray(ImageOps.exif_transpose(image)), full_range(image, bits)
        turn = None
    else:
        tagged = image.format == "TIFF" and turn is not None
        raw = deep_colour(without_orientation(data) if tagged else data, window)
        full = array_range(raw)
    shown, outside = windowed(raw[..., :3] if raw.ndim == 3 else raw, window, full, what)
    remarks.append(("window", outside))
    if raw.ndim == 3 and raw.shape[2] == 4:
        alpha, _ = windowed(raw[..., 3:], "full", full or (0.0, 1.0), what)
        shown = np.concatenate([shown, alpha], axis=2)
    made = Image.fromarray(255 - shown if white_is_zero(image) else shown)
    return made if turn is None else made.transpose(turn)


def _from_array(pixels: np.ndarray, window: Window, remarks: Remarks) -> Image.Image:
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)) or pixels.size == 0:
        raise Refused("unreadable", f"array of shape {pixels.shape}; (H, W), (H, W, 1) or (H, W, 3) is allowed")
    if pixels.dtype.kind not in "iuf":
        raise Refused("unreadable", f"{pixels.dtype} array; integers and floats are allowed")
    if pixels.dtype != np.uint8:
        pixels, outside = windowed(pixels, window, array_range(pixels), f"{pixels.dtype} array")
        remarks.append(("window", outside))
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _not_an_image(data: bytes, name: str) -> Refused:
    found = next((what for start, magic, what in _MAGIC if data[start : start + len(magic)] == magic), None)
    head = data[:512].lstrip().lower()
    if found is None and head.startswith((b"<!doctype html", b"<html")):
        found = "HTML (a web page, perhaps an error page)"
    if found is None and head.startswith((b"<?xml", b"<svg")):
        found = "XML or SVG"
    if found is None and _is_text(data[:512]):
        found = "plain text"
    if found is None and PurePosixPath(name).suffix.lower() in EXTENSIONS:
        return Refused("unreadable", "damaged, or not an image of a known type")
    return Refused("not_an_image", f"is {found or 'of unknown type'}; allowed: {', '.join(_FORMATS)}")


def _is_text(head: bytes) -> bool:
    return all(byte in (9, 10, 13) or 32 <= byte < 127 for byte in head)


def _is_gray(pixels: np.ndarray) -> bool:
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())
