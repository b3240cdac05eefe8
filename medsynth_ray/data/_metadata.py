"""Reads metadata.csv or metadata.jsonl into rows of strings, each with the image's path in one spelling."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from medsynth_ray.errors import AuditError

PATH_COLUMNS = ("path", "file_name")


@dataclass(frozen=True)
class Table:
    """rows: path -> columns. repeats: paths named more than once -> whether all their rows agree."""

    columns: tuple[str, ...]
    rows: dict[str, dict[str, str]]
    repeats: dict[str, bool]


def normal_path(path: str) -> str:
    """NFC, "/" between parts, no leading "./": the form in which ids and metadata are compared."""
    parts = unicodedata.normalize("NFC", path).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def read_table(data: bytes, name: str, path_column: str | None) -> Table:
    """Parse the file called `name` (.csv or .jsonl, UTF-8).

    Raises:
        AuditError: not UTF-8, malformed, or without a path column; names the line or the columns that are there.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AuditError(f"{name}: not UTF-8 (byte {error.start}); save it as UTF-8") from None
    lines = list(_jsonl_rows(text, name) if name.endswith(".jsonl") else _csv_rows(text, name))
    columns = tuple(dict.fromkeys(key for row in lines for key in row))
    column = path_column or next((c for c in PATH_COLUMNS if c in columns), None)
    if column not in columns:
        wanted = repr(path_column) if path_column else "'path' or 'file_name'"
        raise AuditError(f"{name}: no column {wanted}; there are: {', '.join(columns) or 'none'}")
    rows: dict[str, dict[str, str]] = {}
    repeats: dict[str, bool] = {}
    for row in lines:
        path = normal_path(row.get(column, ""))
        if path in rows:
            repeats[path] = repeats.get(path, True) and rows[path] == row
        rows.setdefault(path, row)
    return Table(tuple(c for c in columns if c != column), rows, repeats)


def _csv_rows(text: str, name: str) -> Iterator[dict[str, str]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        if len(set(header)) < len(header):
            raise AuditError(f"{name}: a column name occurs twice in {header}")
        for values in reader:
            if len(values) > len(header):
                raise AuditError(f"{name} line {reader.line_num}: {len(values)} values for {len(header)} columns")
            if values:
                padded = values + [""] * (len(header) - len(values))
                yield {column: value.strip() for column, value in zip(header, padded, strict=True)}
    except csv.Error as error:
        raise AuditError(f"{name} line {reader.line_num}: {error}") from None


def _jsonl_rows(text: str, name: str) -> Iterator[dict[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise AuditError(f"{name} line {number}: {error}") from None
        if not isinstance(row, dict):
            raise AuditError(f"{name} line {number}: must be a JSON object, got {line[:60]!r}")
        yield {str(key): _text(value) for key, value in row.items()}


def _text(value: object) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)
