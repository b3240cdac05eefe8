"""The ways in which a copy may be altered that the near_copy gate measures its own eyes with."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Literal

import numpy as np
from PIL import Image, ImageFilter

from medsynth_ray.images import ImageSet
from medsynth_ray.seeds import rng

Alteration = Literal["horizontal_flip", "crop", "blur", "jpeg", "rotation"]

_KEPT_SHARE = 0.9
_BLUR_SHARE = 1 / 64
_JPEG_QUALITY = 50
_DEGREES = 5.0


def alter(images: ImageSet, name: Alteration, *, seed: int) -> ImageSet:
    """The images, altered: each by its own content, `name` and `seed` alone.

    horizontal_flip: mirrored. crop: a window of 90 % of the sides, anywhere, scaled up again. blur: Gaussian, of 1/64
    of the width. jpeg: quality 50. rotation: by 5 degrees to the left or to the right, with black corners.
    """
    draws = (rng("alteration", seed, name, digest.tobytes().hex()) for digest in images.digests)
    altered = [_WAYS[name](pixels, draw) for pixels, draw in zip(images.pixels, draws, strict=True)]
    pixels = np.stack(altered) if altered else images.pixels
    return ImageSet(pixels, images.labels, images.groups, images.ids, images.class_names)


def _flipped(pixels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return pixels[:, ::-1]


def _cropped(pixels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    image = _image(pixels)
    width, height = _KEPT_SHARE * image.width, _KEPT_SHARE * image.height
    left, top = draw.uniform(0.0, [image.width - width, image.height - height])
    box = (left, top, left + width, top + height)
    return _pixels(image.resize(image.size, Image.Resampling.BICUBIC, box=box), pixels)


def _blurred(pixels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    image = _image(pixels)
    return _pixels(image.filter(ImageFilter.GaussianBlur(_BLUR_SHARE * image.width)), pixels)


def _compressed(pixels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    buffer = BytesIO()
    _image(pixels).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return _pixels(Image.open(buffer), pixels)


def _rotated(pixels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    degrees = float(draw.choice([-_DEGREES, _DEGREES]))
    return _pixels(_image(pixels).rotate(degrees, Image.Resampling.BICUBIC), pixels)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _pixels(image: Image.Image, like: np.ndarray) -> np.ndarray:
    return np.asarray(image).reshape(like.shape)


_WAYS: dict[Alteration, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "horizontal_flip": _flipped,
    "crop": _cropped,
    "blur": _blurred,
    "jpeg": _compressed,
    "rotation": _rotated,
}
ALTERATIONS: tuple[Alteration, ...] = tuple(_WAYS)
"""All of them."""
