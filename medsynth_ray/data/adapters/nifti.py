"""NIfTI volumes (.nii, .nii.gz) as images: one for each slice along an axis, all of a patient in one group.

Volumes are turned to the nearest anatomical axes (RAS+), so slices lie alike whatever the scanner stored. On an image
the patient's left is on the left (sagittal: posterior), anterior (axial) or superior (coronal, sagittal) on top. Needs
the extra `medical`.
"""

from __future__ import annotations

import gzip
import importlib
import math
import struct
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any, BinaryIO, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from medsynth_ray.data._refused import Refused
from medsynth_ray.data.adapters._files import named
from medsynth_ray.data.adapters._stacks import Stacks
from medsynth_ray.data.audit import gathered
from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import ImageRecord

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
_MAX_OFFSET = 2**24
"""Bytes before the voxels: a header and its extensions."""
_KEPT_VOLUMES = 2


@dataclass(frozen=True)
class Header:
    """num_slices: along the axis asked for, once the volume is turned. oriented: whether the file says how it lies."""

    image_class: Any
    num_slices: int
    oriented: bool


class Nifti(Stacks):
    """Labels, groups and splits of volumes come from folders or metadata.csv, as in `folder`."""

    extensions = frozenset({".nii", ".gz"})
    aside = {
        "other_files": ("info", "compressed files that are not .nii.gz, left out"),
        "not_3d": ("quarantine", "not a volume of three dimensions"),
        "too_many_voxels": ("quarantine", "too many voxels"),
        "unreadable": ("quarantine", "cannot be read"),
    }

    class Config(Stacks.Config):
        """Where the volumes are, which slices become images, and which values are shown."""

        axis: Literal["axial", "coronal", "sagittal"] = "axial"
        """Plane of the slices."""
        every_nth: int = Field(default=1, ge=1)
        """Of the slices only each n-th is used, from the first."""
        min_content_share: float = Field(default=0.05, ge=0.0, lt=1.0)
        """A slice is left out if less than this share of its pixels is brighter than 25 of 255 once windowed. 0: all
        are used, and volumes are not unpacked while the data are listed."""
        value_window: tuple[float, float] | None = None
        """[low, high] of the voxel values that become 0 and 255, e.g. [-160, 240] in CT; null: `value_percentiles`."""
        value_percentiles: tuple[float, float] = (1.0, 99.0)
        """[low, high] percentiles of the finite voxels of each volume that become 0 and 255."""
        group_per: Literal["patient", "volume"] = "patient"
        """What a group is. volume: each patient has one volume, so a volume without a group is one; patient: each
        volume needs the group of its patient."""
        volume_index: int | None = Field(default=None, ge=0)
        """Which volume of a file of four dimensions is used (from 0); null: such files are set aside."""
        max_voxels: int = Field(default=200_000_000, ge=1, json_schema_extra={"key": False})
        """A volume with more is set aside; read from the header, before anything is unpacked."""

        @model_validator(mode="after")
        def _ordered(self) -> Self:
            for name in ("value_window", "value_percentiles"):
                pair = getattr(self, name)
                if pair is not None and pair[0] >= pair[1]:
                    raise ValueError(f"{name} is [low, high] with low < high, got {list(pair)}")
            if not (0.0 <= self.value_percentiles[0] and self.value_percentiles[1] <= 100.0):
                raise ValueError(f"value_percentiles must be in [0, 100], got {list(self.value_percentiles)}")
            return self

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._volumes: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()
        self._empty: dict[str, str] = {}
        self._damaged: dict[str, str] = {}

    def scan(self) -> list[ImageRecord]:
        """Records `<path>#<slice>` of all slices used, counted from 0 after turning; fills `findings`.

        Raises:
            AuditError: as `Folder.scan`.
            ConfigError: nibabel is not installed.
        """
        nibabel()
        self._volumes.clear()
        files = super().scan()
        lost = {file.id: "" for file in files if not self._headers[file.id].oriented}
        what = "the file does not say how the volume lies, so its planes may be others"
        self.findings += gathered("no_orientation", "warn", what, lost)
        self._check_groups(files)
        self._empty, self._damaged = {}, {}
        records = [record for file in files for record in self._slices(file)]
        self.findings += gathered("empty_slice", "info", "nearly empty slices, left out", self._empty)
        self.findings += gathered("unreadable", "quarantine", "cannot be read", self._damaged)
        return sorted(records, key=lambda record: record.id)

    def read(self, record: ImageRecord) -> np.ndarray:  # type: ignore[override] # an adapter may return either
        """The slice: uint8 (H, W). The last volumes unpacked are kept.

        Raises:
            Refused: the volume is damaged.
        """
        path, index = self._place(record)
        return np.ascontiguousarray(np.rot90(self._volume(path).take(index, axis=AXES[self.config.axis])))

    def _check_groups(self, files: list[ImageRecord]) -> None:
        """Volumes without a patient: those of one patient would be in train and in test, and pass for apart."""
        without = [file.id for file in files if not file.group]
        what = (
            f"{len(without)} volumes have no group (patient), and a patient may have several; give a column group or "
            "data.group_regex, or set data.group_per: volume if each patient has one volume"
        )
        if self.config.group_per == "patient":
            self.findings += named("volume_as_group", "stop", what, without)

    def _look(self, file: BinaryIO, name: str, num_bytes: int) -> Header:
        if not name.lower().endswith((".nii", ".nii.gz")):
            raise Refused("other_files", "")
        try:
            with _unpacked(file, name) as stream:
                return self._header(stream)
        except _broken() as error:
            raise Refused("unreadable", f"damaged, or no NIfTI ({type(error).__name__})") from error

    def _header(self, stream: Any) -> Header:
        image_class = _image_class(stream)
        header = image_class.header_class.from_fileobj(stream)
        shape = header.get_data_shape()
        if header.get_data_dtype().kind not in "uif":
            raise Refused("unreadable", f"voxels of type {header.get_data_dtype()}; integers and floats are allowed")
        if not 0 <= header.get_data_offset() <= _MAX_OFFSET:
            raise Refused("unreadable", f"voxels begin at byte {header.get_data_offset()}")
        if min(shape, default=0) < 1:
            raise Refused("unreadable", f"shape {_times(shape)}")
        if math.prod(shape[:3]) > self.config.max_voxels:
            raise Refused("too_many_voxels", f"{_times(shape)}; data.max_voxels allows {self.config.max_voxels}")
        self._check_dimensions(shape)
        orientation = nibabel().io_orientation(header.get_best_affine())
        if np.isnan(orientation).any():
            raise Refused("unreadable", "its affine is no orientation")
        axis = int(np.flatnonzero(orientation[:, 0] == AXES[self.config.axis])[0])
        oriented = bool(header["sform_code"] > 0 or header["qform_code"] > 0)
        return Header(image_class, int(shape[axis]), oriented)

    def _check_dimensions(self, shape: tuple[int, ...]) -> None:
        chosen = self.config.volume_index
        if len(shape) == 3 or (len(shape) == 4 and shape[3] == 1 and chosen in (None, 0)):
            return
        if len(shape) != 4:
            raise Refused("not_3d", f"is {_times(shape)}")
        if chosen is None:
            raise Refused("not_3d", f"is {_times(shape)}; data.volume_index chooses one of its volumes")
        if chosen >= shape[3]:
            raise Refused("not_3d", f"is {_times(shape)}; data.volume_index {chosen} is not there")

    def _slices(self, file: ImageRecord) -> list[ImageRecord]:
        group = file.group or file.id
        indices = range(0, self._headers[file.id].num_slices, self.config.every_nth)
        try:
            filled = self._filled(file.id) if self.config.min_content_share > 0.0 else None
        except Refused as error:
            self._damaged[file.id] = error.detail
            return []
        records = []
        for index in indices:
            name = self._name(file, index, index)
            if filled is not None and not filled[index]:
                self._empty[name] = ""
                continue
            meta = {**file.meta, "slice": str(index)}
            records.append(ImageRecord(name, file.label, group, file.split, file.stamp, meta))
        return records

    def _filled(self, path: str) -> np.ndarray:
        """Which slices of a volume show enough: bool (num_slices,)."""
        others = tuple(axis for axis in AXES.values() if axis != AXES[self.config.axis])
        return np.asarray((self._volume(path) > 25).mean(axis=others) >= self.config.min_content_share)

    def _volume(self, path: str) -> np.ndarray:
        """A volume, turned and windowed: uint8 (X, Y, Z) from left to right, posterior to anterior, inferior up."""
        with self._lock:
            if path not in self._volumes:
                self._volumes[path] = self._load(path)
                if len(self._volumes) > _KEPT_VOLUMES:
                    self._volumes.popitem(last=False)
            return self._volumes[path]

    def _load(self, path: str) -> np.ndarray:
        try:
            with self._file(path) as file, _unpacked(file, path) as stream:
                image = self._headers[path].image_class.from_stream(stream)
                if len(image.shape) == 4:
                    image = image.slicer[..., self.config.volume_index or 0]
                turned = nibabel().as_closest_canonical(image)
                return self._windowed(turned.get_fdata(dtype=np.float32, caching="unchanged"))
        except _broken() as error:
            raise Refused("unreadable", f"damaged or cut off ({error})") from error

    def _windowed(self, values: np.ndarray) -> np.ndarray:
        """To uint8; voxels that are not finite become 0, a volume of one value too."""
        window, finite = self.config.value_window, np.isfinite(values)
        if not finite.any():
            return np.zeros(values.shape, dtype=np.uint8)
        low, high = window or np.percentile(values[finite], self.config.value_percentiles)
        if high <= low:
            return np.zeros(values.shape, dtype=np.uint8)
        scaled = (np.where(finite, values, np.float32(low)) - np.float32(low)) * np.float32(255.0 / (high - low))
        return np.asarray(np.rint(np.clip(scaled, 0.0, 255.0)), dtype=np.uint8)


def nibabel() -> Any:
    """The module nibabel.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("nibabel")
    except ImportError as error:
        text = f"data.adapter nifti needs nibabel ({error}); pip install 'medsynth-ray[medical]'"
        raise ConfigError(text) from error


def _broken() -> tuple[type[Exception], ...]:
    """What nibabel and gzip raise on damaged files."""
    module = nibabel()
    errors = (module.spatialimages.HeaderDataError, module.spatialimages.HeaderTypeError)
    own = (*errors, module.wrapstruct.WrapStructError, module.filebasedimages.ImageFileError)
    return (
        OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, EOFError,
        MemoryError, struct.error, zlib.error, *own,
    )  # fmt: skip


def _unpacked(file: BinaryIO, name: str) -> Any:
    """A stream that unpacks no more than is asked of it."""
    return gzip.GzipFile(fileobj=file) if name.lower().endswith(".gz") else file


def _image_class(stream: Any) -> Any:
    """Nifti1Image or Nifti2Image by the header's size, in either byte order; the stream is at its start again."""
    size = stream.read(4)
    stream.seek(0)
    for order in "<>":
        match struct.unpack(f"{order}i", size)[0]:
            case 348:
                return nibabel().Nifti1Image
            case 540:
                return nibabel().Nifti2Image
    raise ValueError("no NIfTI header")


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "empty"
