"""What adapters of published sets share whose images a table lists by file name, wherever below the root they lie."""

from __future__ import annotations

import posixpath
from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pydantic import Field

from medsynth_ray.data._metadata import normal_path, read_rows
from medsynth_ray.data.adapters._files import ImageFiles, Info, Tree, named, stamp
from medsynth_ray.data.audit import gathered, listed
from medsynth_ray.errors import AuditError
from medsynth_ray.protocols import ImageRecord

TableRow = dict[str, str]


@dataclass(frozen=True)
class Row:
    """What a table says of one image, as in `ImageRecord`. left_out: why it is not used, "" if it is."""

    label: str | None
    group: str | None
    meta: dict[str, str] = field(default_factory=dict)
    split: str | None = None
    left_out: str = ""


class ListedImages(ImageFiles):
    """Base of adapters that implement `_rows`. Files and rows meet by file name without folder and extension."""

    class Config(ImageFiles.Config):
        """Where the images are and which of them are used."""

        images_in: str | None = None
        """Name of a folder: only images in or below one of that name are used; null: all."""
        classes: tuple[str, ...] | None = Field(default=None, min_length=1)
        """Only images of these classes are used; null: all."""
        allow_missing: bool = False
        """Whether rows may lack their image, as where only a part of the data was downloaded."""

    @abstractmethod
    def _rows(self, tree: Tree) -> dict[str, Row]:
        """What the tables say of each image, by `stem` of its file name.

        Raises:
            AuditError: a table or a column is missing, or a table cannot be read.
        """

    def scan(self) -> list[ImageRecord]:
        """Records of all images that are listed and there; fills `findings`.

        Raises:
            AuditError: the root, a table or a column is missing or cannot be read, no image that is listed is there, or
                `images_in` or `classes` names what does not exist.
        """
        tree = self._open()
        self._tables: list[str] = []
        rows = self._rows(tree)
        images = self._in_folder(self._images(tree, self._tables))
        paths = self._paths_by_stem(images)
        self._compare(rows, paths)
        used = sorted((paths[name], name) for name in self._chosen(rows) if name in paths)
        return [_record(path, rows[name], images[path]) for path, name in used]

    def _read(self, tree: Tree, path: str, *columns: str) -> list[TableRow]:
        """The rows of a table.

        Raises:
            AuditError: it cannot be read, or lacks one of `columns`.
        """
        self._tables.append(path)
        there, rows = read_rows(tree.read(path), path)
        missing = [column for column in columns if column not in there]
        if missing:
            raise AuditError(f"{path}: no column {missing[0]!r}; there are: {', '.join(there) or 'none, it is empty'}")
        return rows

    def _keyed(self, rows: Iterable[TableRow], column: str) -> dict[str, TableRow]:
        """Rows by `stem` of a column that names images. Of equal rows one is used, of rows that differ none is."""
        found: dict[str, TableRow] = {}
        repeats: dict[str, bool] = {}
        for row in rows:
            name = stem(row[column])
            if name in found:
                repeats[name] = repeats.get(name, True) and found[name] == row
            found.setdefault(name, row)
        equal = {name: "" for name, same in repeats.items() if same}
        differ = {name: "" for name, same in repeats.items() if not same}
        self.findings += gathered("repeated_row", "warn", "several equal rows, one is used", equal)
        self.findings += gathered("repeated_row", "quarantine", "several rows that differ, none is used", differ)
        return {name: row for name, row in found.items() if name not in differ}

    def _in_folder(self, images: dict[str, Info]) -> dict[str, Info]:
        folder = self.config.images_in
        if folder is None:
            return images
        found = {path: info for path, info in images.items() if folder in PurePosixPath(path).parts[:-1]}
        if not found:
            there = sorted({part for path in images for part in PurePosixPath(path).parts[:-1]})
            raise AuditError(f"data.images_in is {folder!r}: no image is in such a folder; there are: {listed(there)}")
        what = f"not below a folder called {folder}, left out"
        self.findings += gathered("other_folder", "info", what, dict.fromkeys(images.keys() - found.keys(), ""))
        return found

    def _paths_by_stem(self, images: Iterable[str]) -> dict[str, str]:
        paths = defaultdict(list)
        for path in sorted(images):
            paths[stem(path)].append(path)
        several = {same[0]: f"not {', '.join(same[1:])}" for same in paths.values() if len(same) > 1}
        what = "several files of this name, the first is used; data.images_in chooses a folder"
        self.findings += gathered("same_name", "warn", what, several)
        return {name: same[0] for name, same in paths.items()}

    def _compare(self, rows: Mapping[str, Row], paths: Mapping[str, str]) -> None:
        missing = {name: "" for name in rows if name not in paths}
        if len(missing) == len(rows):
            text = f"none of the {len(rows)} images that {' and '.join(self._tables) or 'the folders'} list is there"
            raise AuditError(f"data.root {self.config.root!r}: {text}, such as {listed(missing)}")
        unlisted = [paths[name] for name in paths if name not in rows]
        if self.config.allow_missing:
            what = "listed, but not there"
            self.findings += gathered("row_without_file", "warn", what, missing)
        else:
            what = "listed, but not there; set data.allow_missing: true if this is only a part of the data"
            self.findings += gathered("row_without_file", "quarantine", what, missing)
        what = f"{len(unlisted)} images that no table lists, left out"
        self.findings += named("file_without_row", "info", what, unlisted)

    def _chosen(self, rows: Mapping[str, Row]) -> list[str]:
        """Names of the rows that the adapter's rules and `classes` use."""
        reasons = {name: row.left_out for name, row in rows.items() if row.left_out}
        self.findings += gathered("left_out", "info", "left out", reasons)
        used = {name: row.label for name, row in rows.items() if name not in reasons}
        if self.config.classes is None:
            return list(used)
        counts = Counter(label for label in used.values() if label is not None)
        unknown = [label for label in self.config.classes if label not in counts]
        if unknown:
            raise AuditError(f"data.classes: no image of class {unknown[0]!r}; there are: {', '.join(sorted(counts))}")
        others = {name: f"{label}" for name, label in used.items() if label not in self.config.classes}
        self.findings += gathered("other_class", "info", "of a class that data.classes does not name", others)
        return [name for name in used if name not in others]


def stem(path: str) -> str:
    """File name without folder and extension, NFC."""
    name = normal_path(path).rpartition("/")[2]
    start, extension = posixpath.splitext(name)
    return start if extension.lower() in ImageFiles.extensions else name


def common(row: TableRow, **columns: str) -> dict[str, str]:
    """Metadata under common names: `common(row, age="Patient Age")`. A column that is not there is left out.

    sex becomes female or male, "" where unknown; age a number of years where it is one.
    """
    meta = {name: row[column] for name, column in columns.items() if column in row}
    if "sex" in meta:
        meta["sex"] = {"f": "female", "m": "male"}.get(meta["sex"][:1].lower(), "")
    if "age" in meta:
        years = meta["age"].removesuffix("Y").removesuffix(".0")
        meta["age"] = str(int(years)) if years.isdecimal() else meta["age"]
    return meta


def _record(path: str, row: Row, info: Info) -> ImageRecord:
    return ImageRecord(path, row.label, row.group, row.split, stamp(info), row.meta)
