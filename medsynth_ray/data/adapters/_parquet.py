"""Parquet as the `datasets` package writes it: images are structs of bytes and path, names of labels stand beside."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from medsynth_ray.data._metadata import number_text
from medsynth_ray.errors import AuditError, ConfigError


@dataclass(frozen=True)
class Shard:
    """columns: names, without the image's. rows: texts of the plain columns, None where null, and the image's path.

    image: name of the image column, None if there is none. first_rows: of each row group. names: of ClassLabel columns.
    """

    columns: tuple[str, ...]
    rows: list[dict[str, str | None]]
    image: str | None
    first_rows: tuple[int, ...]
    names: dict[str, list[str]]


def read_shard(file: Any, name: str, image_column: str | None) -> Shard:
    """Everything of an open parquet file but the images' bytes.

    Raises:
        AuditError: it is damaged, or has no column `image_column`.
    """
    with _told(name):
        parquet = _arrow("parquet").ParquetFile(file)
        schema = parquet.schema_arrow
        features = _features(schema)
        image = _image_column(schema, features, image_column, name)
        plain = [field.name for field in schema if field.name != image and _is_plain(field.type)]
        wanted = [*plain, f"{image}.path"] if image else plain
        table = parquet.read(columns=wanted, use_threads=False).to_pylist()
        names = {key: value["names"] for key, value in features.items() if value.get("_type") == "ClassLabel"}
        rows = [_texts(row, image, names) for row in table] or [{} for _ in range(parquet.metadata.num_rows)]
        counts = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
    return Shard(tuple(plain), rows, image, tuple(sum(counts[:i]) for i in range(len(counts))), names)


def read_images(file: Any, row_group: int, image: str) -> Any:
    """The encoded images of a row group: an Arrow array of binary.

    Raises:
        OSError: it cannot be read.
    """
    try:
        parquet = _arrow("parquet").ParquetFile(file)
        table = parquet.read_row_group(row_group, columns=[f"{image}.bytes"], use_threads=False)
        return table.column(image).combine_chunks().field("bytes")
    except (_arrow("lib").ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise OSError(f"cannot be unpacked ({error})") from error


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(f"pyarrow.{module}")
    except ImportError as error:
        raise ConfigError(f"data.adapter huggingface needs pyarrow ({error}); pip install pyarrow") from error


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what pyarrow raises on damaged files into an AuditError."""
    try:
        yield
    except (_arrow("lib").ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditError(f"{name}: not a parquet file of the datasets package ({error})") from error


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """What `datasets` wrote about the columns: name -> {_type: ClassLabel, names: [...]} and the like."""
    text = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(text).get("info", {}).get("features") if text else None
    return {key: value for key, value in (features or {}).items() if isinstance(value, dict)}


def _image_column(schema: Any, features: dict[str, dict[str, Any]], wanted: str | None, name: str) -> str | None:
    types = _arrow("types")

    def holds_images(field: Any) -> bool:
        return bool(types.is_struct(field.type) and {"bytes", "path"} <= {part.name for part in field.type})

    fit = [field.name for field in schema if holds_images(field)]
    said = [key for key in fit if features.get(key, {}).get("_type") == "Image"]
    if wanted is not None and wanted not in fit:
        there = ", ".join(fit) or "none"
        raise AuditError(f"{name}: data.image_column {wanted!r} is no column of {{bytes, path}}; such are: {there}")
    return wanted or next(iter(said or fit), None)


def _is_plain(kind: Any) -> bool:
    types = _arrow("types")
    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_temporal(kind) or _is_number(kind))


def _is_number(kind: Any) -> bool:
    types = _arrow("types")
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _texts(row: dict[str, Any], image: str | None, names: dict[str, list[str]]) -> dict[str, str | None]:
    """A row as texts, the image's path under its column's name; a ClassLabel becomes its name, -1 (no label) None."""
    texts: dict[str, str | None] = {}
    for key, value in row.items():
        if key == image:
            value = (value or {}).get("path")
        elif key in names and value is not None:
            value = names[key][int(value)] if 0 <= value < len(names[key]) else None
        elif isinstance(value, float):
            value = number_text(value)
        texts[key] = None if value is None else str(value).strip()
    return texts
