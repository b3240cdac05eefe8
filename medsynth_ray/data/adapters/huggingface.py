"""A data set as the `datasets` package writes and reads it: an image folder, or parquet shards. Nothing is downloaded.

Image folder: train/, validation/, test/ with class folders, or with metadata.csv, .jsonl or .parquet that name each
image by `file_name` below their own folder. Shards: data/train-00000-of-00002.parquet with the images inside.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import PurePosixPath
from threading import Lock
from typing import Any

from fsspec.core import url_to_fs
from pydantic import Field, field_validator

from medsynth_ray.data._metadata import normal_path, read_table
from medsynth_ray.data.adapters._files import SPLITS, ImageFiles, Info, Tree, stamp
from medsynth_ray.data.adapters._parquet import Shard, read_images, read_shard
from medsynth_ray.data.audit import gathered
from medsynth_ray.errors import AuditError
from medsynth_ray.protocols import ImageRecord

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_KEPT_ROW_GROUPS = 4
_Row = dict[str, str | None]


class Huggingface(ImageFiles):
    """`findings` holds what `scan` could not use."""

    class Config(ImageFiles.Config):
        """Where the data set is and which columns say what."""

        label_column: str | None = None
        """Column with the class; default: label if there is one, else (image folders) the name of the folder."""
        group_column: str | None = None
        """Column with the patient, lesion or volume; default: group if there is one."""
        image_column: str | None = None
        """Of shards, the column with the images; default: the first one."""
        group_regex: str | None = Field(default=None, min_length=1)
        """Where no column gives the group: a pattern searched in the image's path, whose first (...) is the group."""

        @field_validator("group_regex")
        @classmethod
        def _has_group(cls, value: str | None) -> str | None:
            try:
                if value is not None and re.compile(value).groups < 1:
                    raise ValueError(f"{value!r} needs a (...) around the group")
            except re.error as error:
                raise ValueError(f"{value!r} is no regular expression: {error}") from None
            return value

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._shards: dict[str, tuple[Shard, str]] = {}
        self._images_of: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._lock = Lock()

    def scan(self) -> list[ImageRecord]:
        """Records of all images; fills `findings`. An image of a shard is called `<shard>#<row>`, rows from 0.

        Raises:
            AuditError: the root or a table cannot be read, a column is not there, or there is no image.
        """
        tree = self._open()
        self._shards = {}
        self._images_of.clear()
        parquet = [path for path in tree.files if path.lower().endswith(".parquet")]
        shards = [path for path in sorted(parquet) if _name(path) not in _METADATA]
        if shards:
            return [record for path in shards for record in self._of_shard(tree, path)]
        if any(path.endswith(".arrow") for path in tree.files):
            text = "holds Arrow files of save_to_disk; write the data set with to_parquet, or as an image folder"
            raise AuditError(f"data.root {tree.root!r}: {text}")
        return self._of_folder(tree)

    def read(self, record: ImageRecord) -> bytes:
        """The encoded image."""
        path, _, row = record.id.rpartition("#")
        if path not in self._shards:
            return super().read(record)
        shard, place = self._shards[path]
        group = bisect_right(shard.first_rows, int(row)) - 1
        data: bytes | None = self._row_group(path, place, group)[int(row) - shard.first_rows[group]].as_py()
        if data is None:
            raise OSError(f"{path} row {int(row)} has no bytes, only a path; write the data set with embedded images")
        return data

    def _row_group(self, path: str, place: str, group: int) -> Any:
        with self._lock:
            if (path, group) not in self._images_of:
                image = self._shards[path][0].image
                assert image is not None
                with url_to_fs(os.path.expanduser(self.config.root))[0].open(place, "rb") as file:
                    self._images_of[path, group] = read_images(file, group, image)
                if len(self._images_of) > _KEPT_ROW_GROUPS:
                    self._images_of.popitem(last=False)
            return self._images_of[path, group]

    def _of_shard(self, tree: Tree, path: str) -> Iterator[ImageRecord]:
        info = tree.files[path]
        shard = _read_parquet(tree, path, self.config.image_column)
        if shard.image is None:
            raise AuditError(f"{path}: no column of images {{bytes, path}}; there are: {', '.join(shard.columns)}")
        label = self._column("label", shard.columns, path)
        group = self._column("group", shard.columns, path)
        if label is None:
            raise AuditError(f"{path}: no column 'label', set data.label_column; there are: {', '.join(shard.columns)}")
        name = normal_path(path)
        self._shards[name] = (shard, info["name"])
        for number, row in enumerate(shard.rows):
            said = dict(row)
            stored = said.pop(shard.image) or ""
            yield self._record(f"{name}#{number:06d}", info, said, label, group, _split_of(name, True), stored)

    def _of_folder(self, tree: Tree) -> list[ImageRecord]:
        tables = sorted(path for path in tree.files if _name(path) in _METADATA)
        images = self._images(tree, tables)
        rows, columns = self._tables(tree, tables)
        label, group = (self._column(name, columns, " and ".join(tables)) for name in ("label", "group"))
        if tables:
            self._compare(images, rows)
            images = {name: info for name, info in images.items() if name in rows}
        records = []
        for name, info in images.items():
            row = rows.get(name, {}) if label else {**rows.get(name, {}), "label": _class_of(name)}
            records.append(self._record(name, info, row, label or "label", group, _split_of(name, False), name))
        return records

    def _tables(self, tree: Tree, tables: list[str]) -> tuple[dict[str, _Row], tuple[str, ...]]:
        """Rows of all metadata files by the image's path below the root, and their columns."""
        rows: dict[str, _Row] = {}
        repeated: dict[str, str] = {}
        columns: dict[str, None] = {}
        for table in tables:
            there, named_rows = _read_metadata(tree, table)
            columns.update(dict.fromkeys(there))
            for file_name, row in named_rows:
                path = normal_path(str(PurePosixPath(table).parent / normal_path(file_name)))
                if path in rows:
                    repeated[path] = f"again in {table}"
                rows[path] = row
        self.findings += gathered("repeated_row", "quarantine", "several metadata rows", repeated)
        return {path: row for path, row in rows.items() if path not in repeated}, tuple(columns)

    def _compare(self, images: dict[str, Info], rows: dict[str, _Row]) -> None:
        missing = dict.fromkeys(rows.keys() - images.keys(), "")
        unnamed = dict.fromkeys(images.keys() - rows.keys(), "")
        self.findings += gathered("row_without_file", "quarantine", "a metadata row without a usable file", missing)
        self.findings += gathered("file_without_row", "warn", "no metadata row, so it is left out", unnamed)

    def _column(self, what: str, columns: tuple[str, ...], where: str) -> str | None:
        """The column of the label or group: the one of the settings, else one of that name if it is there."""
        wanted: str | None = getattr(self.config, f"{what}_column")
        if wanted is not None and wanted not in columns:
            there = ", ".join(columns) or "none"
            raise AuditError(f"data.{what}_column is {wanted!r}, {where or 'no metadata'} has: {there}")
        return wanted or (what if what in columns else None)

    def _record(
        self, name: str, info: Info, row: _Row, label: str, group: str | None, split: str | None, path: str
    ) -> ImageRecord:
        said = dict(row)
        of_class = said.pop(label, None) or None
        whose = (said.pop(group, None) if group else None) or None
        if whose is None and self.config.group_regex and (match := re.search(self.config.group_regex, path)):
            whose = match[1]
        told = said.pop("split", None)
        split = SPLITS.get(told.lower(), told) if told else split
        return ImageRecord(name, of_class, whose, split, stamp(info), {k: v or "" for k, v in said.items()})


def _read_parquet(tree: Tree, path: str, image_column: str | None) -> Shard:
    if tree.leaves(path):
        raise AuditError(f"{path!r} below {tree.root!r} is a link that leaves the root; copy what it points to")
    with tree.fs.open(tree.files[path]["name"], "rb") as file:
        return read_shard(file, path, image_column)


def _read_metadata(tree: Tree, table: str) -> tuple[tuple[str, ...], list[tuple[str, _Row]]]:
    """Columns of a metadata file but file_name, and (file_name, row) of each row."""
    if not table.endswith(".parquet"):
        found = read_table(tree.read(table), table, "file_name")
        differing: list[tuple[str, _Row]] = [(path, {}) for path, same in found.repeats.items() if not same]
        return found.columns, [*((path, _without(row)) for path, row in found.rows.items()), *differing]
    shard = _read_parquet(tree, table, None)
    if "file_name" not in shard.columns:
        raise AuditError(f"{table}: no column 'file_name'; there are: {', '.join(shard.columns) or 'none'}")
    rows = [(row["file_name"] or "", _without(row)) for row in shard.rows]
    return tuple(column for column in shard.columns if column != "file_name"), rows


def _without(row: Any) -> _Row:
    return {column: value for column, value in row.items() if column != "file_name"}


def _name(path: str) -> str:
    return path.rpartition("/")[2].lower()


def _class_of(path: str) -> str | None:
    """The folder that holds the image, unless it is that of a split."""
    folder = path.split("/")[-2] if "/" in path else ""
    return folder if folder and folder.lower() not in SPLITS else None


def _split_of(path: str, of_file: bool) -> str | None:
    """The split named by a folder; of shards by a word of the file's name first (train-00000-of-00002.parquet)."""
    *folders, name = path.lower().split("/")
    words = re.split(r"[^a-z]+", name) if of_file else []
    return next((SPLITS[word] for word in [*words, *reversed(folders)] if word in SPLITS), None)
