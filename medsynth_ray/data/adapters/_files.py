"""What adapters of image files below a root share: open it, walk it without leaving it, name the images, read them."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pydantic import Field

from medsynth_ray.data._decode import EXTENSIONS
from medsynth_ray.data._metadata import normal_path
from medsynth_ray.data.audit import Finding, Severity, gathered, listed
from medsynth_ray.errors import AuditError
from medsynth_ray.protocols import Component, ComponentConfig, ImageRecord

Info = dict[str, Any]
"""What fsspec says about a file: name, type, size, and more."""
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Spellings of the names of splits, in lower case."""
IGNORED = frozenset({
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "lost+found", "$recycle.bin",
    "system volume information",
})  # fmt: skip
"""Names, in lower case, of what operating systems leave behind; so are all names that begin with a dot."""


@dataclass(frozen=True)
class Tree:
    """What lies below a root. Paths are relative to it.

    files: path -> info of files and links (links are not followed). folders: all below the root. ignored: hidden and
    system files and folders.
    """

    root: str
    fs: fsspec.AbstractFileSystem
    base: str
    files: dict[str, Info]
    folders: list[str]
    ignored: list[str]

    @classmethod
    def open(cls, root: str) -> Tree:
        """List everything below `root`, a local folder or an fsspec URL.

        Raises:
            AuditError: no such folder, not a folder, or it or a folder below it may not be listed.
        """
        fs, base = _open_root(root)
        files: dict[str, Info] = {}
        folders, ignored = [base], []
        # fs.find would leave out folders that it may not list, without a word.
        for folder in folders:
            try:
                entries = fs.ls(folder, detail=True)
            except OSError as error:
                raise AuditError(f"data.root {root!r}: cannot list {folder} ({error})") from error
            for info in entries:
                path = info["name"].rstrip("/")
                name = path.rsplit("/", 1)[-1]
                if path == folder:
                    continue
                if name.startswith(".") or name.lower() in IGNORED:
                    ignored.append(path[len(base) :].lstrip("/"))
                elif info["type"] == "directory":
                    folders.append(path)
                else:
                    files[path[len(base) :].lstrip("/")] = info
        return cls(root, fs, base, files, [folder[len(base) :].lstrip("/") for folder in folders[1:]], ignored)

    def leaves(self, path: str) -> bool:
        """Whether this is a link to a folder, to nothing, or out of the (real) root. Only local files know links."""
        info = self.files[path]
        if not info.get("islink"):
            return False
        target = os.path.realpath(info["name"])
        return not (os.path.isfile(target) and target.startswith(os.path.realpath(self.base) + os.sep))

    def read(self, path: str) -> bytes:
        """The bytes of a file of the data set that is no image, such as its table.

        Raises:
            AuditError: it is not there, may not be read, or is a link that leaves the root.
        """
        if path in self.files and self.leaves(path):
            raise AuditError(f"{path!r} below {self.root!r} is a link that leaves the root; copy what it points to")
        try:
            data: bytes = self.fs.cat_file(f"{self.base}/{path}")
        except OSError as error:
            raise AuditError(f"{path!r}: cannot be read below {self.root!r} ({error})") from error
        return data

    def find(self, *names: str) -> str | None:
        """The path of the file that has the first of `names` that occurs, in any folder and any case.

        Raises:
            AuditError: several files have that name.
        """
        for name in names:
            found = sorted(p for p in self.files if p.rsplit("/", 1)[-1].lower() == name.lower())
            if len(found) > 1:
                raise AuditError(f"data.root {self.root!r}: several files are called {name}: {listed(found)}; keep one")
            if found:
                return found[0]
        return None

    def need(self, *names: str) -> str:
        """As `find`.

        Raises:
            AuditError: none of `names` is there, or several files have that name.
        """
        found = self.find(*names)
        if found is None:
            raise AuditError(f"data.root {self.root!r}: no file called {' or '.join(names)} in it or below it")
        return found


class ImageFiles(Component):
    """Base of adapters that read image files below `config.root`. `findings` holds what `scan` could not use.

    A `scan` calls `_open` first, then `_images`, and makes records with `stamp(info)`; `read` is done.
    """

    extensions: ClassVar[Collection[str]] = EXTENSIONS
    """Which files are images, in lower case with the dot."""

    class Config(ComponentConfig):
        """Where the images are."""

        root: str = Field(min_length=1, json_schema_extra={"key": False})
        """Local folder (`~` is expanded) or any fsspec URL: s3://bucket/folder, gs://..., memory://..."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.findings: list[Finding] = []
        self._paths: dict[str, str] = {}

    def read(self, record: ImageRecord) -> bytes:
        """The encoded file."""
        fs, base = url_to_fs(os.path.expanduser(self.config.root))
        data: bytes = fs.cat_file(self._paths.get(record.id, f"{base.rstrip('/')}/{record.id}"))
        return data

    def _open(self) -> Tree:
        """List the root anew; `findings` begins with what is ignored.

        Raises:
            AuditError: the root or a folder below it cannot be listed.
        """
        tree = Tree.open(self.config.root)
        what = f"hidden and system files, left out (names that begin with a dot, {', '.join(sorted(IGNORED))})"
        self.findings = named("ignored_files", "info", what, tree.ignored)
        return tree

    def _images(self, tree: Tree, known: Iterable[str | None] = ()) -> dict[str, Info]:
        """Id -> info of the image files. What cannot be used becomes findings; `known` are other files of the layout.

        Raises:
            AuditError: there is no image.
        """
        usable = self._without_links(tree)
        images = [path for path in usable if _suffix(path) in self.extensions]
        others = set(usable) - set(images) - set(known)
        what = "files that are not images by their extension, left out"
        self.findings += named("other_files", "info", what, others)
        spellings = defaultdict(list)
        for path in self._readable(tree, images):
            spellings[normal_path(path)].append(path)
        clash = {name: f"{len(paths)} files" for name, paths in spellings.items() if len(paths) > 1}
        self.findings += gathered("id_clash", "quarantine", "file names that differ only in Unicode form", clash)
        found = {name: tree.files[paths[0]] for name, paths in sorted(spellings.items()) if len(paths) == 1}
        if not found:
            raise AuditError(
                f"data.root {tree.root!r}: no image below it (known: {', '.join(sorted(self.extensions))})"
            )
        self._paths = {name: info["name"] for name, info in found.items()}
        return found

    def _without_links(self, tree: Tree) -> list[str]:
        """Paths of files and of links that stay below the root; the other links become findings."""
        outside = {path: f"-> {tree.files[path]['destination']}" for path in tree.files if tree.leaves(path)}
        links = {path: text for path, text in outside.items() if _suffix(path) in self.extensions}
        self.findings += gathered("symlink", "quarantine", "a link that leaves the root is not followed", links)
        folders = {path: text for path, text in outside.items() if path not in links}
        what = "links to folders are not followed, so a class may be missing; copy what they point to"
        self.findings += named("symlink", "stop", what, folders)
        return [path for path in tree.files if path not in outside]

    def _readable(self, tree: Tree, images: Iterable[str]) -> list[str]:
        """The images that have a name in Unicode, are plain files, and may be read; the others become findings."""
        problems: dict[str, dict[str, str]] = defaultdict(dict)
        good = []
        for path in images:
            info = tree.files[path]
            if any("\ud800" <= letter <= "\udfff" for letter in path):
                problems["bad_name"][ascii(path)[1:-1]] = ""
            elif info["type"] != "file" and not info.get("islink"):
                problems["special_file"][path] = f"is of type {info['type']}"
            elif isinstance(tree.fs, LocalFileSystem) and not os.access(info["name"], os.R_OK):
                problems["no_permission"][path] = ""
            else:
                good.append(path)
        self.findings += [
            *gathered("bad_name", "quarantine", "the file's name is not UTF-8; rename it", problems["bad_name"]),
            *gathered("special_file", "quarantine", "neither a file nor a folder", problems["special_file"]),
            *gathered("no_permission", "stop", "may not be read; give yourself the right", problems["no_permission"]),
        ]
        return good


def named(kind: str, severity: Severity, what: str, paths: Collection[str]) -> list[Finding]:
    """A finding about paths that are no images, none for no path; a mapping gives details."""
    return [Finding(kind, severity, f"{what}: {listed(paths)}", tuple(sorted(paths)))] if paths else []


def stamp(info: Mapping[str, Any]) -> str:
    """What changes when the file's content may have changed: its size, and its time or etag."""
    keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "created")
    if info.get("islink"):
        info = {**info, "mtime": os.stat(info["name"]).st_mtime}
    return f"{info.get('size')}-{next((str(info[key]) for key in keys if info.get(key)), '')}"


def _open_root(root: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        fs, base = url_to_fs(os.path.expanduser(root))
        if not fs.exists(base):
            raise AuditError(f"data.root {root!r}: no such folder")
        if not fs.isdir(base):
            raise AuditError(f"data.root {root!r}: is a file, not a folder")
    except (OSError, ValueError, ImportError) as error:
        raise AuditError(f"data.root {root!r}: cannot be opened ({error})") from error
    return fs, base.rstrip("/")


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1].lower()
