"""ImageSet: the one shape in which images cross every border between stages.

N images, H x W pixels, C channels (1 or 3): uint8 (N, H, W, C) in [0, 255], read-only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np


def _frozen(array: np.ndarray) -> np.ndarray:
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def digest_images(pixels: np.ndarray) -> np.ndarray:
    """One content hash for each image: (N,) of 16 raw bytes (blake2b over shape and pixels), dtype V16."""
    head = repr(pixels.shape[1:]).encode()
    flat = np.ascontiguousarray(pixels)
    rows = [hashlib.blake2b(head + flat[i].tobytes(), digest_size=16).digest() for i in range(len(flat))]
    return np.frombuffer(b"".join(rows), dtype="V16") if rows else np.empty(0, dtype="V16")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images.

    pixels: uint8 (N, H, W, C), C in {1, 3}. labels: int64 (N,) into `class_names`. groups: str (N,), the patient,
    lesion or volume an image belongs to (what a split must not tear apart). ids: str (N,), unique among real images.

    Raises:
        ValueError: shapes, dtypes or label values do not fit.
    """

    pixels: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    ids: np.ndarray
    class_names: tuple[str, ...]
    _digests: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or self.pixels.shape[3] not in (1, 3):
            raise ValueError(f"pixels must be uint8 (N, H, W, 1 or 3), got {self.pixels.dtype} {self.pixels.shape}")
        n = len(self.pixels)
        shapes = {name: getattr(self, name).shape for name in ("labels", "groups", "ids")}
        if any(shape != (n,) for shape in shapes.values()):
            raise ValueError(f"{n} images but labels, groups, ids have shapes {shapes}")
        if n and not (0 <= int(self.labels.min()) and int(self.labels.max()) < len(self.class_names)):
            raise ValueError(f"labels must be in [0, {len(self.class_names)}), got up to {int(self.labels.max())}")
        object.__setattr__(self, "labels", self.labels.astype(np.int64, copy=False))
        for name in ("pixels", "labels", "groups", "ids"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def num_classes(self) -> int:
        """Number of classes, those without an image included."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return (int(self.pixels.shape[1]), int(self.pixels.shape[2]), int(self.pixels.shape[3]))

    @property
    def digests(self) -> np.ndarray:
        """Content hash of each image, V16 (N,); computed once and carried along by `take` and `concat`."""
        if self._digests is None:
            object.__setattr__(self, "_digests", digest_images(self.pixels))
        assert self._digests is not None
        return self._digests

    @property
    def fingerprint(self) -> str:
        """sha256 over pixels, labels, groups, ids and class names, in order: 64 hex digits."""
        sha = hashlib.sha256(repr((self.image_shape, self.class_names)).encode())
        sha.update(self.digests.tobytes())
        sha.update(self.labels.tobytes())
        for names in (self.groups, self.ids):
            sha.update("\0".join(map(str, names)).encode())
        return sha.hexdigest()

    def counts(self) -> np.ndarray:
        """Images of each class: int64 (K,)."""
        return np.bincount(self.labels, minlength=self.num_classes).astype(np.int64)

    def take(self, index: np.ndarray | Sequence[int]) -> ImageSet:
        """The images at `index` (integers or a boolean mask), in that order."""
        index = np.asarray(index) if len(index) else np.empty(0, dtype=np.int64)
        digests = None if self._digests is None else self._digests[index]
        return ImageSet(
            self.pixels[index], self.labels[index], self.groups[index], self.ids[index], self.class_names, digests
        )

    def of_class(self, label: int) -> ImageSet:
        """The images of one class, in order."""
        return self.take(np.flatnonzero(self.labels == label))


def concat(sets: Sequence[ImageSet]) -> ImageSet:
    """One set after the other.

    Raises:
        ValueError: no set, or image shapes or class names differ.
    """
    if not sets:
        raise ValueError("concat needs at least one image set")
    kinds = {(s.image_shape, s.class_names) for s in sets}
    if len(kinds) > 1:
        raise ValueError(f"image shapes and class names must agree, got {sorted(kinds)}")
    known = all(s._digests is not None for s in sets)
    return ImageSet(
        np.concatenate([s.pixels for s in sets]),
        np.concatenate([s.labels for s in sets]),
        np.concatenate([s.groups for s in sets]),
        np.concatenate([s.ids for s in sets]),
        sets[0].class_names,
        np.concatenate([s.digests for s in sets]) if known else None,
    )


def batches(
    images: ImageSet, *, batch_size: int, seed: int | None, epoch: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (x_NCHW float32 in [-1, 1], labels int64 (B,), index int64 (B,)); shuffled by (seed, epoch), or in order.

    The last batch may be smaller. One fancy index per batch on the decoded array: no per-image work.

    Raises:
        ValueError: `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    order = np.arange(len(images))
    if seed is not None:
        np.random.default_rng([seed, epoch]).shuffle(order)
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        yield to_unit_range(images.pixels[index]), images.labels[index], index


def to_unit_range(pixels: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) in [0, 255] -> contiguous float32 (N, C, H, W) in [-1, 1]."""
    x_NCHW = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32)
    x_NCHW *= np.float32(2.0 / 255.0)
    x_NCHW -= np.float32(1.0)
    return x_NCHW


def from_unit_range(x_NCHW: np.ndarray) -> np.ndarray:
    """Float (N, C, H, W) in [-1, 1] (clipped) -> uint8 (N, H, W, C), rounded to nearest."""
    pixels = np.clip((np.asarray(x_NCHW, dtype=np.float64) + 1.0) * 127.5, 0.0, 255.0)
    return np.ascontiguousarray(np.rint(pixels).astype(np.uint8).transpose(0, 2, 3, 1))
