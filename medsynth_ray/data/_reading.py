"""Reads all images of a data set in threads: decode, preprocess, resize; and what was seen on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medsynth_ray import registry
from medsynth_ray.data._decode import Refused, canonical, decode, shrink
from medsynth_ray.data._near import PRINT_PX, print_of
from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Adapter, ImageRecord, Preprocessor

if TYPE_CHECKING:
    from medsynth_ray.sections import DataConfig

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Read:
    """What was seen of one image. digest: empty where nothing was decoded."""

    digest: bytes
    gray: bool
    remarks: tuple[tuple[str, str], ...]


def read_all(
    adapter: Adapter, records: Sequence[ImageRecord], config: DataConfig, num_threads: int, progress: Progress | None
) -> tuple[list[Read], np.ndarray, np.ndarray | None]:
    """Decode, preprocess and resize all records.

    What was seen; uint8 (N, H, W, C), zeros where an image is refused; prints for near duplicates, if they are wanted.
    """
    channels = 1 if config.channels == 1 else 3
    pixels = np.zeros((len(records), config.resolution, config.resolution, channels), dtype=np.uint8)
    prints = np.zeros((len(records), PRINT_PX, PRINT_PX), dtype=np.uint8) if config.near_duplicates == "join" else None
    steps = [_step(config, number) for number in range(len(config.preprocess))]

    def read(row: int) -> Read:
        record = records[row]
        try:
            decoded = decode(adapter.read(record), record.id, config.window)
        except Refused as error:
            return Read(b"", False, ((error.kind, error.detail),))
        except OSError as error:
            return Read(b"", False, (("unreadable", error.strerror or str(error)),))
        image, remarks = decoded.image, decoded.remarks
        if prints is not None:
            prints[row] = print_of(image)
        try:
            image = _preprocessed(image, steps)
        except Refused as error:
            remarks = (*remarks, (error.kind, error.detail))
        pixels[row] = shrink(image, config.resolution, channels, config.resize)
        return Read(decoded.digest, image.mode == "L", remarks)

    reads = []
    with ThreadPoolExecutor(num_threads) as pool:
        for done, one in enumerate(pool.map(read, range(len(records))), 1):
            reads.append(one)
            if progress is not None and (done % 64 == 0 or done == len(records)):
                progress(done, len(records), "decode")
    return reads, pixels, prints


def remarks_of(
    records: Sequence[ImageRecord], reads: Sequence[Read], after: Mapping[str, str]
) -> dict[str, tuple[tuple[str, str], ...]]:
    """Id -> what was seen; images whose stamp is another `after` reading are of neither state, so only that counts."""
    before = stamps_of(records)
    changed = (("changed", "since the data were listed"),)
    return {
        record.id: read.remarks if before[record.id] == after.get(record.id) else changed
        for record, read in zip(records, reads, strict=True)
    }


def _step(config: DataConfig, number: int) -> tuple[str, Preprocessor]:
    """A step of `data.preprocess` and its name."""
    spec = config.preprocess[number]
    return spec.use, registry.configure("preprocess", spec, where=f"data.preprocess.{number}.config").build()


def step_identity(config: DataConfig, number: int) -> dict[str, Any]:
    """What of a step of `data.preprocess` decides the pixels."""
    spec = config.preprocess[number]
    settings = registry.configure("preprocess", spec, where=f"data.preprocess.{number}.config")
    return {"use": spec.use, "version": settings.component.version, "config": settings.identity()}


def _preprocessed(image: Image.Image, steps: Sequence[tuple[str, Preprocessor]]) -> Image.Image:
    """The image after all steps.

    Raises:
        Refused: a step cannot use it.
        TypeError: a step returns something else than an image.
        ConfigError: a step needs an optional package that is missing.
    """
    for name, step in steps:
        try:
            pixels = step.apply(np.ascontiguousarray(image))
        except ConfigError:  # is a ValueError, too
            raise
        except ValueError as error:
            raise Refused("preprocess", f"{name}: {error}") from error
        colours = () if image.mode == "L" else (3,)
        if pixels.dtype != np.uint8 or pixels.size == 0 or pixels.ndim < 2 or pixels.shape[2:] != colours:
            raise TypeError(
                f"data.preprocess {name!r} must return uint8 of the same kind, got {pixels.dtype} {pixels.shape}"
            )
        image = Image.fromarray(pixels)
    return canonical(image)[0] if steps else image


def stamps_of(records: Sequence[ImageRecord]) -> dict[str, str]:
    """Id -> hash of everything that the scan said of the image."""
    return {r.id: sha_of([r.label, r.group, r.split, r.stamp, sorted(r.meta.items())])[:16] for r in records}


def sha_of(value: Any) -> str:
    """sha256 of a JSON-able value: 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
