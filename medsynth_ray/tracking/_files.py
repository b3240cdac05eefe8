"""Lays out the files of one journal entry as MLflow's pages look for them. Imports no mlflow.

An image of step s is `images/<key, "/" as "~">+step+<s>+timestamp+<ms>+<uuid>.png` with a preview `+compressed.webp`
beside it (the layout of MLflow 3.17's `log_image`). The uuid is made from the bytes, so that a second upload writes the
same file. A table is a pandas "split" JSON that the tag `mlflow.loggedArtifacts` lists.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

_PREVIEW_PX = 256
"""Longer side of the picture that the grid shows."""

Read = Callable[[str], bytes]
"""The bytes at a path in the store."""


def lay_out(entry: dict[str, Any], folder: Path, read: Read) -> dict[str, str]:
    """Write the images, tables and artifacts of `entry` below `folder`; return the tags that make pages show them.

    Raises:
        OSError: a file of the entry cannot be read, or is not an image.
        ValueError: an artifact's name leads out of the folder, or a table's columns differ in length.
    """
    for image in entry.get("images", ()):
        _write_image(image, folder / "images", read(image["file"]))
    tables = entry.get("tables", {})
    for name, columns in tables.items():
        _inside(folder, name).write_text(_split_table(name, columns))
    for artifact in entry.get("artifacts", ()):
        _inside(folder, artifact["name"]).write_bytes(read(artifact["file"]))
    tags = {}
    if entry.get("images"):
        tags["mlflow.loggedImages"] = "True"
    if tables:
        tags["mlflow.loggedArtifacts"] = json.dumps([{"path": name, "type": "table"} for name in tables])
    return tags


def _write_image(image: dict[str, Any], folder: Path, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    key = re.sub(r"[^a-zA-Z0-9_\-./ ]", "_", image["key"]).replace("/", "~")
    identity = uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(data).hexdigest())
    stem = f"{key}+step+{image['step']}+timestamp+{image['timestamp_ms']}+{identity}"
    (folder / f"{stem}.png").write_bytes(data)
    with Image.open(io.BytesIO(data)) as picture:
        scale = _PREVIEW_PX / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(folder / f"{stem}+compressed.webp")


def _split_table(name: str, columns: dict[str, list[Any]]) -> str:
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of table {name} differ in length: {lengths}")
    return json.dumps({"columns": list(columns), "data": [list(row) for row in zip(*columns.values(), strict=True)]})


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"the artifact name {name!r} leads out of the run")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
