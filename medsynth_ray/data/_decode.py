"""One file or array to an 8-bit gray or RGB image, or a reason why not. Nothing is clipped or guessed silently."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

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


class Refused(Exception):
    """The image cannot be used. kind: short, the same for all such images; detail: about this one."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


@dataclass(frozen=True)
class Decoded:
    """image: mode L or RGB, upright. digest: of the full-size content, the same for gray stored as L or as RGB.

    remarks: (kind, detail) of what was converted on the way.
    """

    image: Image.Image
    digest: bytes
    remarks: tuple[tuple[str, str], ...]


def decode(source: bytes | np.ndarray, name: str) -> Decoded:
    """Decode in full.

    Raises:
        Refused: empty, damaged, not an image, too large, several frames, more than 8 bits a channel.
    """
    remarks: list[tuple[str, str]] = []
    try:
        opened = _from_array(source) if isinstance(source, np.ndarray) else _open(source, name, remarks)
        image = _to_gray_or_rgb(ImageOps.exif_transpose(opened), remarks)
    except _BROKEN as error:
        raise Refused("unreadable", f"damaged or cut off ({error})") from error
    image, content = _canonical(image)
    digest = hashlib.blake2b(f"{content.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(content).data)
    return Decoded(image, digest.digest(), tuple(remarks))


def shrink(image: Image.Image, size_px: int, channels: int) -> np.ndarray:
    """Resize to uint8 (size_px, size_px, channels): bicubic, antialiased, aspect ratio not kept."""
    wanted = image.convert("L") if channels == 1 and image.mode == "RGB" else image
    pixels = np.asarray(wanted.resize((size_px, size_px), Image.Resampling.BICUBIC))
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], channels, axis=2)


def _open(data: bytes, name: str, remarks: list[tuple[str, str]]) -> Image.Image:
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
    bits = _bits_per_channel(image, data)
    if bits > 8:
        raise Refused("high_depth", f"{bits} bits a channel; 8 are allowed, so save a windowed 8-bit copy")
    suffix, stored = PurePosixPath(name).suffix.lower(), "JPEG" if image.format == "MPO" else image.format
    if stored != EXTENSIONS.get(suffix, stored):
        remarks.append(("content_type", f"is {stored}"))
    image.load()
    return image


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8:
        raise Refused("high_depth", f"{pixels.dtype} array; uint8 is allowed")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)) or pixels.size == 0:
        raise Refused("unreadable", f"array of shape {pixels.shape}; (H, W), (H, W, 1) or (H, W, 3) is allowed")
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


def _bits_per_channel(image: Image.Image, data: bytes) -> int:
    """Pillow reads 16-bit RGB PNG and TIFF as 8-bit without a word, so the header is asked where there is one."""
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(258, (1,))))  # type: ignore[attr-defined]
    return {"I": 32, "F": 32}.get(image.mode, 16 if image.mode.startswith("I;16") else 8)


def _to_gray_or_rgb(image: Image.Image, remarks: list[tuple[str, str]]) -> Image.Image:
    if image.mode in ("1", "L", "RGB") and "transparency" not in image.info:
        return image.convert("L") if image.mode == "1" else image
    if image.mode == "P":
        remarks.append(("palette", "palette colours written out"))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        remarks.append(("transparency", "alpha channel laid on black"))
        return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")
    if image.mode != "P":
        remarks.append(("colour_space", f"{image.mode} converted to RGB without a colour profile"))
    return image.convert("RGB")


def _canonical(image: Image.Image) -> tuple[Image.Image, np.ndarray]:
    """The image as L if its channels are equal everywhere, and its pixels (a sparse look first: most are not)."""
    pixels = np.asarray(image)
    if image.mode == "RGB" and _is_gray(pixels[::16, ::16]) and _is_gray(pixels):
        image = image.getchannel(0)
        pixels = np.asarray(image)
    return image, pixels


def _is_gray(pixels: np.ndarray) -> bool:
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())
