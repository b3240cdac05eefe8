"""MedMNIST v2: one npz file for each set and size (Yang et al. 2023, arXiv 2110.14795). 2-D sets; the split is kept."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Literal

import numpy as np
from pydantic import Field

from medsynth_ray.data.adapters._files import Tree, stamp
from medsynth_ray.data.audit import Finding, gathered
from medsynth_ray.errors import AuditError
from medsynth_ray.protocols import Component, ComponentConfig, ImageRecord

_SPLITS = ("train", "val", "test")
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, NotImplementedError)


class Medmnist(Component):
    """`<name>.npz` (28 px) or `<name>_<size>.npz`. Patients are not known, so a sweep must say `groups: none`."""

    class Config(ComponentConfig):
        """Which file, and what its numbers mean."""

        root: str = Field(min_length=1, json_schema_extra={"key": False})
        """Local folder or fsspec URL in or below which the npz file lies."""
        name: str = Field(pattern=r"^[a-z0-9]+$")
        """The set, e.g. pneumoniamnist."""
        size_px: Literal[28, 64, 128, 224] = 28
        """Side of the stored images: which file is read."""
        class_names: tuple[str, ...] | None = Field(default=None, min_length=2)
        """Names of labels 0, 1, ...; null: the numbers themselves."""
        label_rule: Literal["refuse", "single"] = "refuse"
        """For sets with several labels an image (chestmnist). single: images with one label have it, those with none
        are of class `none`, those with more are left out."""
        memory_gib: float = Field(default=8.0, gt=0.0, json_schema_extra={"key": False})
        """A file that needs more memory than this when unpacked is refused."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.findings: list[Finding] = []
        self._pixels: dict[str, np.ndarray] = {}
        self._lock = Lock()

    def scan(self) -> list[ImageRecord]:
        """Records of all images; reads the labels and the headers of the pixel arrays.

        Raises:
            AuditError: the file or an array is missing, is not what MedMNIST has, or is too large.
        """
        self.findings, self._pixels = [], {}
        tree, path = self._find()
        try:
            with _opened(tree, path) as archive:
                self._check_size(archive, path)
                labels = {split: self._labels(archive, split, path) for split in _SPLITS}
        except _BROKEN as error:
            raise AuditError(f"{path}: not an npz file that can be read without pickle ({error})") from error
        version = stamp(tree.files[path])
        records = [
            ImageRecord(self._id(split, i), label, None, split, version)
            for split, names in labels.items()
            for i, label in enumerate(names)
            if label is not None
        ]
        several = {self._id(s, i): "" for s, names in labels.items() for i, label in enumerate(names) if label is None}
        self.findings += gathered("several_labels", "info", "several labels, left out", several)
        return sorted(records, key=lambda record: record.id)

    def read(self, record: ImageRecord) -> np.ndarray:
        """The image; the first one of a split unpacks the whole array, which is kept."""
        _, split, index = record.id.rsplit("/", 2)
        with self._lock:
            if split not in self._pixels:
                self._pixels[split] = self._load(split)
        pixels: np.ndarray = self._pixels[split][int(index)]
        return pixels

    def _id(self, split: str, index: int) -> str:
        return f"{self.config.name}/{split}/{index:06d}"

    def _find(self) -> tuple[Tree, str]:
        size = "" if self.config.size_px == 28 else f"_{self.config.size_px}"
        tree = Tree.open(self.config.root)
        return tree, tree.need(f"{self.config.name}{size}.npz")

    def _load(self, split: str) -> np.ndarray:
        try:
            tree, path = self._find()
            with _opened(tree, path) as archive, archive.open(f"{split}_images.npy") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except (AuditError, KeyError, *_BROKEN) as error:
            raise OSError(f"{split}_images cannot be unpacked ({error})") from error

    def _check_size(self, archive: zipfile.ZipFile, path: str) -> None:
        needed = sum(info.file_size for info in archive.infolist()) / 2**30
        if needed > self.config.memory_gib:
            limit = self.config.memory_gib
            raise AuditError(f"{path}: {needed:.3g} GiB when unpacked, data.memory_gib allows {limit:g}")

    def _labels(self, archive: zipfile.ZipFile, split: str, path: str) -> list[str | None]:
        """The class of each image of a split; None where the label rule has none."""
        for part in ("images", "labels"):
            if f"{split}_{part}.npy" not in archive.namelist():
                there = ", ".join(sorted(name.removesuffix(".npy") for name in archive.namelist()))
                raise AuditError(f"{path}: no array {split}_{part}; there are: {there}")
        _header(archive, f"{split}_labels.npy")
        with archive.open(f"{split}_labels.npy") as file:
            labels = np.lib.format.read_array(file, allow_pickle=False)
        shape, dtype = _header(archive, f"{split}_images.npy")
        self._check(shape, dtype, labels, f"{path}: {split}")
        return [self._name(row, path) for row in labels.reshape(len(labels), -1)]

    def _check(self, shape: tuple[int, ...], dtype: np.dtype[Any], labels: np.ndarray, where: str) -> None:
        if dtype != np.uint8 or not (len(shape) == 3 or (len(shape) == 4 and shape[3] == 3)):
            raise AuditError(f"{where}_images is {dtype} {shape}; allowed: uint8 (N, H, W) or (N, H, W, 3), no 3-D set")
        if labels.dtype.kind not in "ui" or labels.ndim not in (1, 2) or len(labels) != shape[0]:
            raise AuditError(f"{where}_labels is {labels.dtype} {labels.shape}; needed: integers for {shape[0]} images")
        several = labels.ndim == 2 and labels.shape[1] > 1
        if several and self.config.label_rule == "refuse":
            raise AuditError(f"{where}_labels has {labels.shape[1]} labels an image; set data.label_rule: single")
        if several and labels.max(initial=0) > 1:
            raise AuditError(f"{where}_labels holds {labels.max()}; several labels an image are told by 0 and 1")

    def _name(self, row: np.ndarray, path: str) -> str | None:
        if len(row) > 1:
            positive = np.flatnonzero(row)
            if len(positive) != 1:
                return None if len(positive) else "none"
            row = positive
        label, names = int(row[0]), self.config.class_names
        if names is not None and not 0 <= label < len(names):
            raise AuditError(f"{path}: label {label}; data.class_names names 0 to {len(names) - 1}")
        return str(label) if names is None else str(names[label])


@contextmanager
def _opened(tree: Tree, path: str) -> Iterator[zipfile.ZipFile]:
    if tree.leaves(path):
        raise AuditError(f"{path!r} below {tree.root!r} is a link that leaves the root; copy what it points to")
    with tree.fs.open(tree.files[path]["name"], "rb") as file, zipfile.ZipFile(file) as archive:
        yield archive


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array, without its data.

    Raises:
        ValueError: no npy file, or the array is larger than the file, for which NumPy would take the memory.
    """
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > archive.getinfo(name).file_size:
        raise ValueError(f"{name} is cut off: {dtype} {shape} in {archive.getinfo(name).file_size} bytes")
    return shape, dtype
