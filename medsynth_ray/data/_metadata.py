"""Reads tables (CSV, JSON lines, workbooks) into rows of strings, each with the image's path in one spelling."""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
import zipfile
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


def utf8_text(data: bytes, name: str) -> str:
    """Decode the file called `name`.

    Raises:
        AuditError: not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AuditError(f"{name}: not UTF-8 (byte {error.start}); save it as UTF-8") from None


def number_text(value: float) -> str | None:
    """3.0 as 3, since a gap in a column turns whole numbers into floats; None for NaN, which is the gap."""
    if math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() else str(value)


def read_rows(data: bytes, name: str) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Columns and rows of the file called `name`: .xlsx (first sheet), .jsonl, .tab and .tsv (tab-separated), else CSV.

    Raises:
        AuditError: not UTF-8, or malformed; names the line. A workbook, where openpyxl is not installed.
    """
    if name.endswith(".xlsx"):
        return _sheet(data, name)
    text = utf8_text(data, name)
    if not name.endswith(".jsonl"):
        return _csv_rows(text, name)
    rows = list(_jsonl_rows(text, name))
    return tuple(dict.fromkeys(key for row in rows for key in row)), rows


def read_table(data: bytes, name: str, path_column: str | None) -> Table:
    """Parse the file called `name` (see `read_rows`), whose rows are keyed by path.

    Raises:
        AuditError: not UTF-8, malformed, or without a path column; names the line or the columns that are there.
    """
    columns, lines = read_rows(data, name)
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


def _sheet(data: bytes, name: str) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    import pandas as pd

    try:
        frame = pd.read_excel(io.BytesIO(data), dtype=str, keep_default_na=False, engine="openpyxl")
    except ImportError as error:
        cure = "`pip install openpyxl`, or save the sheet as CSV (UTF-8) under the same name with .csv"
        raise AuditError(f"{name}: reading a workbook needs openpyxl, which is not installed; {cure}") from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise AuditError(f"{name}: no readable workbook ({error})") from error
    columns = tuple(str(column).strip() for column in frame.columns)
    return columns, [dict(zip(columns, map(str.strip, row), strict=True)) for row in frame.to_numpy(dtype=str)]


def _csv_rows(text: str, name: str) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    delimiter = "\t" if name.endswith((".tab", ".tsv")) else ","
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows = []
    try:
        header = tuple(column.strip() for column in next(reader, []))
        if len(set(header)) < len(header):
            raise AuditError(f"{name}: a column name occurs twice in {list(header)}")
        for values in reader:
            if len(values) > len(header):
                raise AuditError(f"{name} line {reader.line_num}: {len(values)} values for {len(header)} columns")
            if values:
                padded = values + [""] * (len(header) - len(values))
                rows.append({column: value.strip() for column, value in zip(header, padded, strict=True)})
    except csv.Error as error:
        raise AuditError(f"{name} line {reader.line_num}: {error}") from None
    return header, rows


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
    if isinstance(value, float):
        return number_text(value) or ""
    return value.strip() if isinstance(value, str) else json.dumps(value)
