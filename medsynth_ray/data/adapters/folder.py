"""Images in folders, local or in a bucket: `root/class/*`, `root/split/class/*`, or any layout with a metadata file.

metadata.csv or metadata.jsonl names each image's `path` (or `file_name`) below the root, and may give `label`, `group`
and `split`; all other columns are kept. Where there is no label column the folder is the label.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import PurePosixPath
from typing import Any, Self

import fsspec
from fsspec.core import url_to_fs
from pydantic import Field, model_validator

from medsynth_ray.data._decode import EXTENSIONS
from medsynth_ray.data._metadata import Table, normal_path, read_table
from medsynth_ray.data.audit import Finding, Severity, gathered, listed
from medsynth_ray.errors import AuditError
from medsynth_ray.protocols import Component, ComponentConfig, ImageRecord

Info = dict[str, Any]
"""What fsspec says about a file: name, type, size, and more."""
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_IGNORED = {"__macosx", "thumbs.db", "desktop.ini"}
_DEFAULT_METADATA = ("metadata.csv", "metadata.jsonl")


class Folder(Component):
    """A folder of images. `findings` holds what `scan` could not use."""

    class Config(ComponentConfig):
        """Where the images are and which columns say what."""

        root: str = Field(min_length=1, json_schema_extra={"key": False})
        """Local folder (`~` is expanded) or any fsspec URL: s3://bucket/folder, gs://..., memory://..."""
        metadata: str | None = "auto"
        """Metadata file below the root; auto: metadata.csv or metadata.jsonl if there is one; null: none."""
        path_column: str | None = None
        """Column with the image's path; default: path, else file_name."""
        label_column: str | None = None
        """Column with the class; default: label if there is one, else the folder's name."""
        group_column: str | None = None
        """Column with the patient, lesion or volume; default: group if there is one."""
        split_column: str | None = None
        """Column with train, val or test; default: split if there is one."""
        group_regex: str | None = None
        """Where no column gives the group: a pattern searched in the image's path, whose first (...) is the group."""

        @model_validator(mode="after")
        def _regex_has_group(self) -> Self:
            try:
                count = re.compile(self.group_regex or "()").groups
            except re.error as error:
                raise ValueError(f"group_regex {self.group_regex!r} is no regular expression: {error}") from None
            if count < 1:
                raise ValueError(f"group_regex {self.group_regex!r} needs a (...) around the group")
            return self

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.findings: list[Finding] = []
        self._paths: dict[str, str] = {}

    def scan(self) -> list[ImageRecord]:
        """Records of all images; fills `findings`.

        Raises:
            AuditError: the root or the metadata file is missing or cannot be read, or there is no image.
        """
        self.findings = []
        fs, base = self._open_root()
        found, folders = self._walk(fs, base)
        images = self._images(base, found)
        full = {str(parent) for name in found for parent in PurePosixPath(name).parents}
        self.findings += _named("empty_folder", "warn", "folders without a file", set(folders) - full)
        table = self._metadata(fs, base, found)
        if not images:
            known = ", ".join(sorted(EXTENSIONS))
            raise AuditError(f"data.root {self.config.root!r}: no image below it (known: {known})")
        if table is not None:
            self._compare(images, table)
            images = {name: info for name, info in images.items() if table.repeats.get(name, name in table.rows)}
        labelled = self._folder_labels(images)
        return [self._record(name, images[name], labelled[name], table) for name in sorted(images)]

    def read(self, record: ImageRecord) -> bytes:
        """The encoded file."""
        fs, base = url_to_fs(os.path.expanduser(self.config.root))
        data: bytes = fs.cat_file(self._paths.get(record.id, f"{base.rstrip('/')}/{record.id}"))
        return data

    def _open_root(self) -> tuple[fsspec.AbstractFileSystem, str]:
        root = self.config.root
        try:
            fs, base = url_to_fs(os.path.expanduser(root))
            if not fs.exists(base):
                raise AuditError(f"data.root {root!r}: no such folder")
            if not fs.isdir(base):
                raise AuditError(f"data.root {root!r}: is a file, not a folder")
        except (OSError, ValueError, ImportError) as error:
            raise AuditError(f"data.root {root!r}: cannot be opened ({error})") from error
        return fs, base.rstrip("/")

    def _walk(self, fs: fsspec.AbstractFileSystem, base: str) -> tuple[dict[str, Info], list[str]]:
        """Files and links that are not hidden, relative path -> fsspec info, and the folders below the root."""
        # fs.find would leave out folders that it may not list, without a word.
        files, folders = {}, [base]
        for folder in folders:
            try:
                entries = fs.ls(folder, detail=True)
            except OSError as error:
                raise AuditError(f"data.root {self.config.root!r}: cannot list {folder} ({error})") from error
            for info in entries:
                path = info["name"].rstrip("/")
                name = path.rsplit("/", 1)[-1]
                if path == folder or name.startswith(".") or name.lower() in _IGNORED:
                    continue
                if info["type"] == "directory":
                    folders.append(path)
                else:
                    files[path[len(base) :].lstrip("/")] = info
        return files, [folder[len(base) :].lstrip("/") for folder in folders[1:]]

    def _images(self, base: str, found: dict[str, Info]) -> dict[str, Info]:
        """Id -> info of the image files; links out of the root and clashing names become findings."""
        outside = {path: f"-> {info['destination']}" for path, info in found.items() if _leaves(base, info)}
        links = {path: text for path, text in outside.items() if PurePosixPath(path).suffix.lower() in EXTENSIONS}
        self.findings += gathered("symlink", "quarantine", "a link that leaves the root is not followed", links)
        folders = {path: outside[path] for path in outside.keys() - links.keys()}
        what = "links to folders are not followed, so a class may be missing; copy what they point to"
        self.findings += _named("symlink", "stop", what, folders)
        named = [p for p in found if p not in outside and PurePosixPath(p).suffix.lower() in EXTENSIONS]
        spellings = defaultdict(list)
        for path in named:
            spellings[normal_path(path)].append(path)
        clash = {name: f"{len(paths)} files" for name, paths in spellings.items() if len(paths) > 1}
        self.findings += gathered("id_clash", "quarantine", "file names that differ only in Unicode form", clash)
        self._other_files(found, set(named) | set(outside))
        self._paths = {name: found[paths[0]]["name"] for name, paths in spellings.items() if len(paths) == 1}
        return {name: found[paths[0]] for name, paths in spellings.items() if len(paths) == 1}

    def _other_files(self, found: dict[str, Any], known: set[str]) -> None:
        others = {p for p in found if p not in known and p not in (*_DEFAULT_METADATA, self.config.metadata)}
        self.findings += _named("other_files", "info", "files that are not images by their extension, left out", others)

    def _metadata(self, fs: fsspec.AbstractFileSystem, base: str, found: dict[str, Info]) -> Table | None:
        config = self.config
        name = config.metadata
        if name == "auto":
            name = next((default for default in _DEFAULT_METADATA if default in found), None)
        if name is None:
            wanted = [c for c in ("path_column", "label_column", "group_column", "split_column") if getattr(config, c)]
            if wanted:
                value = getattr(config, wanted[0])
                raise AuditError(f"data.{wanted[0]} is {value!r} but {config.root!r} has no metadata file")
            return None
        try:
            table = read_table(fs.cat_file(f"{base}/{name}"), name, config.path_column)
        except OSError as error:
            raise AuditError(f"data.metadata {name!r}: cannot be read below {config.root!r} ({error})") from error
        for field in ("label_column", "group_column", "split_column"):
            column = getattr(config, field)
            if column is not None and column not in table.columns:
                there = ", ".join(table.columns)
                raise AuditError(f"data.{field} is {column!r}, {name} has no such column; there are: {there}")
        return table

    def _compare(self, images: dict[str, Any], table: Table) -> None:
        missing = {path: "" for path in table.rows if path not in images}
        unnamed = {name: "" for name in images if name not in table.rows}
        repeats = {p: "" for p, same in table.repeats.items() if same and p in images}
        disagree = {p: "" for p, same in table.repeats.items() if not same and p in images}
        self.findings += [
            *gathered("row_without_file", "quarantine", "a metadata row without a usable file", missing),
            *gathered("file_without_row", "warn", "no metadata row, so it is left out", unnamed),
            *gathered("repeated_row", "warn", "several equal metadata rows, one is used", repeats),
            *gathered("repeated_row", "quarantine", "several metadata rows that differ", disagree),
        ]

    def _folder_labels(self, images: dict[str, Any]) -> dict[str, tuple[str | None, str | None]]:
        """Id -> (label, split) from the folders. Split folders only count if all images are in one."""
        parts = {name: name.split("/") for name in images}
        splits = all(len(part) >= 3 and part[0].lower() in SPLITS for part in parts.values())
        if splits:
            return {name: (part[1], SPLITS[part[0].lower()]) for name, part in parts.items()}
        return {name: (part[0] if len(part) > 1 else None, None) for name, part in parts.items()}

    def _record(
        self, name: str, info: Info, folders: tuple[str | None, str | None], table: Table | None
    ) -> ImageRecord:
        row = dict(table.rows[name]) if table else {}
        said = {}
        for field in ("label", "group", "split"):
            said[field] = row.pop(getattr(self.config, f"{field}_column") or field, "") or None
        if table:
            row = {column: value for column, value in row.items() if column in table.columns}
        group = said["group"]
        if group is None and self.config.group_regex and (match := re.search(self.config.group_regex, name)):
            group = match[1]
        split = said["split"] or folders[1]
        split = SPLITS.get(split.lower(), split) if split else None
        label = said["label"] or (None if self._has_label(table) else folders[0])
        return ImageRecord(name, label, group, split, _stamp(info), row)

    def _has_label(self, table: Table | None) -> bool:
        return table is not None and (self.config.label_column or "label") in table.columns


def _named(kind: str, severity: Severity, what: str, paths: Collection[str]) -> list[Finding]:
    """A finding about paths that are no images; a mapping gives details."""
    return [Finding(kind, severity, f"{what}: {listed(paths)}", tuple(sorted(paths)))] if paths else []


def _leaves(base: str, info: Info) -> bool:
    """Whether this is a link to a folder, to nothing, or out of the (real) root. Only local files know links."""
    if not info.get("islink"):
        return False
    target = os.path.realpath(info["name"])
    return not (os.path.isfile(target) and target.startswith(os.path.realpath(base) + os.sep))


def _stamp(info: Info) -> str:
    keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
    return f"{info.get('size')}-{next((str(info[key]) for key in keys if info.get(key)), '')}"
