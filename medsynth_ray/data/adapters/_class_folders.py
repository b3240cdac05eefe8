"""What adapters of published sets share whose classes, and perhaps official split, are the names of folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from medsynth_ray.data.adapters._files import SPLITS, ImageFiles, Info, named, stamp
from medsynth_ray.data.audit import Finding, listed
from medsynth_ray.errors import AuditError
from medsynth_ray.protocols import ImageRecord


class ClassFolders(ImageFiles):
    """Base of adapters that name `labels`. The innermost folder with a known name counts, in any case."""

    labels: ClassVar[Mapping[str, str]]
    """Name of a class folder, in lower case -> class."""
    has_split: ClassVar[bool] = False
    """Whether the set is published in folders of train and test."""
    num_published: ClassVar[int]
    """Images of the published set."""

    def scan(self) -> list[ImageRecord]:
        """Records of all images in class folders; fills `findings`.

        Raises:
            AuditError: the root is missing or cannot be listed, or a class has no image.
        """
        images = self._images(self._open())
        records = [self._record(path, info) for path, info in images.items()]
        found = [record for record in records if record.label]
        outside = [record.id for record in records if not record.label]
        names = ", ".join(sorted(self.labels))
        self.findings += named("no_class_folder", "warn", f"images in no folder called {names}, left out", outside)
        self._check(found)
        return found

    def _record(self, path: str, info: Info) -> ImageRecord:
        folders = [part.lower() for part in reversed(path.split("/")[:-1])]
        label = next((self.labels[name] for name in folders if name in self.labels), None)
        split = next((SPLITS[name] for name in folders if name in SPLITS), None) if self.has_split else None
        return ImageRecord(path, label, None, split, stamp(info))

    def _check(self, found: list[ImageRecord]) -> None:
        labels = {record.label for record in found}
        for label in dict.fromkeys(self.labels.values()):
            if label not in labels:
                folders = " or ".join(name for name, of in self.labels.items() if of == label)
                raise AuditError(f"data.root {self.config.root!r}: no image of class {label!r} in a folder {folders}")
        if len(found) != self.num_published:
            text = f"{len(found)} images are here, the published set has {self.num_published}"
            self.findings.append(Finding("other_size", "info", text))
        without = [record.id for record in found if not record.split] if self.has_split else []
        if without:
            text = f"{len(without)} images lie in no folder train or test, so the official split is not known for them"
            self.findings.append(Finding("no_split_folder", "warn", f"{text}: {listed(without)}", tuple(without)))
