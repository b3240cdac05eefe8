"""Writes an arm's synthetic images as an ImageFolder with metadata.csv, and its fitted generator as a folder."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from PIL import Image

from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Pool
from medsynth_ray.results import SweepResult

COLUMNS = ("file_name", "label", "synthetic", "generator", "seed", "source", "nearest_real", "nearest_real_distance")


def export(result: SweepResult, arm: str, folder: Path) -> dict[str, Any]:
    """Write `images/<class>/<index>.png`, `images/metadata.csv` and `generator/part-<n>/` below the empty `folder`.

    `images` is an ImageFolder; each `generator/part-<n>` is what the generator's `load` reads.

    nearest_real_distance: Euclidean, in the sweep's quality space, to the nearest train image.

    Raises:
        ConfigError: no such arm, or the folder holds something.
    """
    try:
        pool = result.pool(arm)
    except KeyError as error:
        raise ConfigError(str(error.args[0])) from None
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; name a new folder")
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = _rows(result, result.arm_pool(arm)["label"], pool)
    for row, pixels in zip(rows, pool.images.pixels, strict=True):
        path = images / row["file_name"]
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)
    with (images / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    parts = _export_generator(result, arm, folder / "generator")
    return {"arm": arm, "folder": str(folder), "images": len(rows), "generator_parts": parts}


def _rows(result: SweepResult, generator: str, pool: Pool) -> list[dict[str, Any]]:
    train = result.data.part("train")
    nearest, distance = result.nearest_real(pool.images)
    names = [str(c) for c in pool.images.class_names]
    return [
        {
            "file_name": f"{_safe(names[label])}/{Path(str(name)).name}.png",
            "label": _cell(names[label]),
            "synthetic": 1,
            "generator": generator,
            "seed": int(seed),
            "source": _cell(str(source)),
            "nearest_real": _cell(str(train.ids[near])),
            "nearest_real_distance": round(float(far), 6),
        }  # fmt: skip
        for label, name, seed, source, near, far in zip(
            pool.images.labels, pool.images.ids, pool.seeds, pool.source_ids, nearest, distance, strict=True
        )
    ]


def _safe(name: str) -> str:
    """A class name as one path component."""
    return name.replace("/", "_").replace("\\", "_").lstrip(".") or "class"


def _cell(text: str) -> str:
    """A cell that no spreadsheet reads as a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _export_generator(result: SweepResult, arm: str, folder: Path) -> int:
    records = result.fit_records(arm)
    for number, record in enumerate(records):
        result.store.fetch(record, folder / f"part-{number}", "model/")
    return len(records)
