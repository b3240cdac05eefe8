"""What adapters of files that hold several images share: look at each header once, set aside what cannot be used."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, BinaryIO, ClassVar

from fsspec.core import url_to_fs

from medsynth_ray.data._refused import Refused
from medsynth_ray.data.adapters._files import Info, Tree
from medsynth_ray.data.adapters.folder import Folder
from medsynth_ray.data.audit import Severity, gathered, listed
from medsynth_ray.errors import AuditError
from medsynth_ray.protocols import ImageRecord


class Stacks(Folder):
    """Base of adapters that implement `_look`; labels, groups and splits of files are told as in `folder`."""

    aside: ClassVar[dict[str, tuple[Severity, str]]]
    """Kinds that `_look` refuses with -> severity and text of the finding."""

    class Config(Folder.Config):
        """Where the files are and which columns say what."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._headers: dict[str, Any] = {}
        self._places: dict[str, tuple[str, int]] = {}

    @abstractmethod
    def _look(self, file: BinaryIO, name: str, num_bytes: int) -> Any:
        """What the header of an open file of `num_bytes` says.

        Raises:
            Refused: the file is not used; its kind is one of `aside`.
            OSError: it cannot be read.
        """

    def _images(self, tree: Tree, known: Iterable[str | None] = ()) -> dict[str, Info]:
        """The files whose header is good; the others become findings."""
        found = super()._images(tree, known)
        self._headers, self._places = {}, {}
        aside: dict[str, dict[str, str]] = {kind: {} for kind in self.aside}
        for name, info in found.items():
            try:
                with tree.fs.open(info["name"], "rb") as file:
                    self._headers[name] = self._look(file, name, info["size"])
            except Refused as error:
                aside[error.kind][name] = error.detail
            except OSError as error:
                aside["unreadable"][name] = error.strerror or type(error).__name__
        for kind, (severity, what) in self.aside.items():
            self.findings += gathered(kind, severity, what, aside[kind])
        if not self._headers:
            reasons = {name: f"{kind} {text}".strip() for kind in aside for name, text in aside[kind].items()}
            raise AuditError(f"data.root {tree.root!r}: no image that can be used below it: {listed(reasons)}")
        return {name: found[name] for name in self._headers}

    def _name(self, file: ImageRecord, number: int, index: int) -> str:
        """The id of one image of a file, remembered with its place in the file."""
        name = f"{file.id}#{number:04d}"
        self._places[name] = (file.id, index)
        return name

    def _place(self, record: ImageRecord) -> tuple[str, int]:
        """(path below the root, index in the file)."""
        return self._places.get(record.id, (record.id, 0))

    def _file(self, path: str) -> Any:
        """The file at `path` below the root, opened for reading bytes."""
        fs, base = url_to_fs(os.path.expanduser(self.config.root))
        return fs.open(self._paths.get(path, f"{base.rstrip('/')}/{path}"), "rb")
