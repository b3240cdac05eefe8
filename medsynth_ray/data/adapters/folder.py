"""Images in folders, local or in a bucket: `root/class/*`, `root/split/class/*`, or any layout with a metadata file.

metadata.csv or metadata.jsonl names each image's `path` (or `file_name`) below the root, and may give `label`, `group`
and `split`; all other columns are kept. Where there is no label column the folder is the label. Folders called train,
val or test are splits where one holds class folders or there are two of them; a single flat one is a class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, Self

from pydantic import model_validator

from medsynth_ray.data._metadata import Table, normal_path, read_table
from medsynth_ray.data.adapters._files import SPLITS, ImageFiles, Info, Tree, named, stamp
from medsynth_ray.data.audit import gathered
from medsynth_ray.errors import AuditError
from medsynth_ray.protocols import ImageRecord

_DEFAULT_METADATA = ("metadata.csv", "metadata.jsonl")
_FolderLabels = dict[str, tuple[str | None, str | None]]


class Folder(ImageFiles):
    """A folder of images. `findings` holds what `scan` could not use."""

    class Config(ImageFiles.Config):
        """Where the images are and which columns say what."""

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
        allow_empty: bool = False
        """Whether a class folder may hold no image; the class then does not exist."""

        @model_validator(mode="after")
        def _regex_has_group(self) -> Self:
            try:
                count = re.compile(self.group_regex or "()").groups
            except re.error as error:
                raise ValueError(f"group_regex {self.group_regex!r} is no regular expression: {error}") from None
            if count < 1:
                raise ValueError(f"group_regex {self.group_regex!r} needs a (...) around the group")
            return self

    def scan(self) -> list[ImageRecord]:
        """Records of all images; fills `findings`.

        Raises:
            AuditError: the root or the metadata file is missing or cannot be read, or there is no image.
        """
        tree = self._open()
        images = self._images(tree, (*_DEFAULT_METADATA, self.config.metadata))
        table = self._metadata(tree)
        self._empty_folders(tree, images, table)
        if table is not None:
            self._compare(images, table)
            images = {name: info for name, info in images.items() if table.repeats.get(name, name in table.rows)}
        labelled = _folder_labels(images)
        self._outside_class_folders(labelled, table)
        return [self._record(name, info, labelled[name], table) for name, info in images.items()]

    def _empty_folders(self, tree: Tree, images: Iterable[str], table: Table | None) -> None:
        """Folders without an image: a stop where the folder would be a class, since the class would vanish silently."""
        with_image, with_file = _parents(images), _parents(map(normal_path, tree.files))
        folders = {normal_path(path) for path in tree.folders}
        classes = set() if self._has_label(table) else {path for path in folders - with_image if _is_class(path)}
        what = "class folders without an image; add images, remove the folder, or set data.allow_empty: true"
        self.findings += named("empty_class", "info" if self.config.allow_empty else "stop", what, classes)
        self.findings += named("empty_folder", "warn", "folders without a file", folders - with_file - classes)

    def _outside_class_folders(self, labelled: _FolderLabels, table: Table | None) -> None:
        """Images beside the class folders of splits: they have no class, and their folder is none."""
        if self._has_label(table) or not any(split for _, split in labelled.values()):
            return
        without = {name: "" for name, (label, _) in labelled.items() if label is None}
        what = "not in a class folder of a split folder (train/CLASS/image), so without a class; move or remove them"
        self.findings += gathered("no_class_folder", "warn", what, without)

    def _metadata(self, tree: Tree) -> Table | None:
        config = self.config
        name = config.metadata
        if name == "auto":
            name = next((default for default in _DEFAULT_METADATA if default in tree.files), None)
        if name is None:
            wanted = [c for c in ("path_column", "label_column", "group_column", "split_column") if getattr(config, c)]
            if wanted:
                value = getattr(config, wanted[0])
                raise AuditError(f"data.{wanted[0]} is {value!r} but {config.root!r} has no metadata file")
            return None
        try:
            table = read_table(tree.read(name), name, config.path_column)
        except AuditError as error:
            raise AuditError(f"data.metadata {error}") from error
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
        return ImageRecord(name, label, group, split, stamp(info), row)

    def _has_label(self, table: Table | None) -> bool:
        return table is not None and (self.config.label_column or "label") in table.columns


def _folder_labels(images: Iterable[str]) -> _FolderLabels:
    """Id -> (label, split) from the folders; a lone flat folder with a split's name is a class."""
    folders = {name: name.split("/")[:-1] for name in images}
    in_split = [parts for parts in folders.values() if parts and parts[0].lower() in SPLITS]
    if any(len(parts) > 1 for parts in in_split) or len({parts[0] for parts in in_split}) > 1:
        return {name: _in_split(parts) for name, parts in folders.items()}
    return {name: (parts[0] if parts else None, None) for name, parts in folders.items()}


def _in_split(folders: Sequence[str]) -> tuple[str | None, str | None]:
    """(label, split) of an image in these folders where the outermost ones are splits."""
    split = SPLITS.get(folders[0].lower()) if folders else None
    return (folders[1] if split and len(folders) > 1 else None), split


def _parents(paths: Iterable[str]) -> set[str]:
    return {str(parent) for path in paths for parent in PurePosixPath(path).parents}


def _is_class(path: str) -> bool:
    """Whether a folder lies where classes lie: in the root, or in a folder of a split."""
    parts = path.split("/")
    return len(parts) == 1 or (len(parts) == 2 and parts[0].lower() in SPLITS)
