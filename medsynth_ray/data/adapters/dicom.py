"""A folder tree of DICOM files, labelled by folder or by metadata.csv as `folder` reads it. Needs the extra `medical`.

Of a header only an allow-list of tags is read (`_dicom_tags`): no name, date, UID or accession number comes out of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from pydantic import Field, field_validator

from medsynth_ray.data._refused import Refused
from medsynth_ray.data.adapters._dicom_pixels import frame_pixels
from medsynth_ray.data.adapters._dicom_tags import (
    Header,
    broken,
    check_size,
    hashed,
    is_telling,
    patient_key,
    pydicom,
    read_header,
    reveals,
)
from medsynth_ray.data.adapters._files import named
from medsynth_ray.data.adapters._stacks import Stacks
from medsynth_ray.data.audit import Finding, gathered, listed
from medsynth_ray.protocols import ImageRecord


class _Suffixes(frozenset[str]):
    """Also no suffix and a number: DICOM files are often called by a UID, such as 1.2.840.10008."""

    def __contains__(self, suffix: object) -> bool:
        return super().__contains__(suffix) or str(suffix)[1:].isdecimal() or suffix == ""


class Dicom(Stacks):
    """Each frame of each file is an image; the group is a keyed hash of the PatientID where no table gives one."""

    extensions = _Suffixes({".dcm", ".dicom", ".ima"})
    aside = {
        "not_dicom": ("info", "files without an extension that are not DICOM, left out"),
        "no_pixels": ("info", "DICOM files without an image (reports, DICOMDIR ...), left out"),
        "other_modality": ("info", "of a modality that data.modalities does not name, left out"),
        "transfer_syntax": ("quarantine", "their compression cannot be decoded here"),
        "too_many_pixels": ("quarantine", "too many pixels"),
        "unreadable": ("quarantine", "cannot be read"),
    }

    class Config(Stacks.Config):
        """Where the files are, who is who, and which grey values are shown."""

        patient_key_env: str = Field(default="MEDSYNTH_PATIENT_KEY", min_length=1, json_schema_extra={"key": False})
        """Environment variable with the secret (16 bytes or more) under which PatientID is hashed."""
        patient_key_file: str | None = Field(default=None, json_schema_extra={"key": False})
        """File with that secret, instead; it must not be readable by others (chmod 600)."""
        voi_window: tuple[float, float] | None = None
        """[centre, width] of the grey values to show, after rescaling (Hounsfield units in CT). null: the VOI table or
        the first window of the file, or the whole range of the stored bits where there is neither."""
        modalities: tuple[str, ...] | None = Field(default=None, min_length=1)
        """Only these modalities are used, e.g. [CR, DX]; null: all."""
        max_pixels: int = Field(default=2_000_000_000, ge=1, json_schema_extra={"key": False})
        """Rows x columns x frames of one file may be at most this."""

        @field_validator("voi_window")
        @classmethod
        def _width(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
            if value is not None and value[1] < 1.0:
                raise ValueError(f"is [centre, width], and the width must be at least 1, got {value[1]:g}")
            return value

    def scan(self) -> list[ImageRecord]:
        """Records of all frames; fills `findings`. A file of several frames gives `<path>#0001`, `<path>#0002` ...

        Raises:
            AuditError: as `Folder.scan`.
            ConfigError: pydicom is not installed, or a PatientID must be hashed and there is no (good) key.
        """
        pydicom()
        files = super().scan()
        self._warn({file.id: self._headers[file.id] for file in files})
        files = self._without_ids(files)
        return sorted((r for file in files for r in self._expanded(file)), key=lambda record: record.id)

    def read(self, record: ImageRecord) -> np.ndarray:  # type: ignore[override] # an adapter may return either
        """The frame: uint8 (H, W), or (H, W, 3).

        Raises:
            Refused: it cannot be decoded.
        """
        path, frame = self._place(record)
        with self._file(path) as file:
            try:
                return frame_pixels(file, frame, self.config.voi_window)
            except broken() as error:
                raise Refused("unreadable", f"damaged, or not as its header says ({type(error).__name__})") from None

    def _look(self, file: BinaryIO, name: str, num_bytes: int) -> Header:
        try:
            header = read_header(file)
        except Refused as error:
            if error.kind == "not_dicom" and name.lower().endswith(tuple(self.extensions)):
                raise Refused("unreadable", error.detail) from error
            raise
        modality = header.meta.get("modality", "")
        if self.config.modalities is not None and modality not in self.config.modalities:
            raise Refused("other_modality", modality)
        if header.missing:
            raise Refused("transfer_syntax", header.missing)
        check_size(header, num_bytes, self.config.max_pixels)
        return header

    def _warn(self, headers: Mapping[str, Header]) -> None:
        burned = {name: h.burned_in for name, h in headers.items() if h.burned_in}
        what = "the pixels may show the patient's name: look at them, or leave them out"
        self.findings += gathered("burned_in", "warn", what, burned)
        unwindowed = {n: "" for n, h in headers.items() if h.needs_window} if self.config.voi_window is None else {}
        what = "no window in the file, so the whole range of the stored bits is shown; set data.voi_window"
        self.findings += gathered("no_window", "warn", what, unwindowed)
        telling = [name for name, h in headers.items() if reveals(name, h.patient_id)]
        what = f"{len(telling)} paths hold the PatientID, and paths are kept as ids; rename the files"
        self.findings += named("patient_in_path", "warn", what, telling)

    def _without_ids(self, files: list[ImageRecord]) -> list[ImageRecord]:
        """The files with a group: of the PatientID where none is given. What is or holds a PatientID is hashed."""
        patients = [self._headers[file.id].patient_id for file in files]
        given = any(file.group for file in files)
        groups = [(file.group if given else patient) or "" for file, patient in zip(files, patients, strict=True)]
        columns = {c: [file.meta.get(c, "") for file in files] for c in sorted({c for f in files for c in f.meta})}
        telling = [c for c, values in columns.items() if is_telling(values, patients)]
        hide_groups = not given or any(map(reveals, groups, patients))
        self._check_table(files, [*(["group"] if given and hide_groups else []), *telling])
        needs_key = bool(telling) or (hide_groups and any(groups))
        key = patient_key(self.config.patient_key_env, self.config.patient_key_file) if needs_key else b""
        found = []
        for file, group in zip(files, groups, strict=True):
            meta = {c: hashed(value, key) if value and c in telling else value for c, value in file.meta.items()}
            hidden = hashed(group, key) if group and hide_groups else group
            found.append(replace(file, group=hidden or None, meta=meta))
        return found

    def _check_table(self, files: list[ImageRecord], telling: list[str]) -> None:
        """What a table or `group_regex` says of patients: of some files only, or the PatientID itself."""
        if telling:
            text = f"the PatientID is in {listed(telling)} (of the table or data.group_regex), which is hashed"
            self.findings.append(Finding("patient_in_table", "warn", text))
        without = [file.id for file in files if not file.group]
        what = (
            f"{len(without)} of {len(files)} files have no group in the table or by data.group_regex, the others have "
            "one: a patient with files of both kinds would be torn; give all files a group, or none"
        )
        if len(without) < len(files):
            self.findings += named("some_groups", "stop", what, without)

    def _expanded(self, file: ImageRecord) -> list[ImageRecord]:
        header = self._headers[file.id]
        meta: dict[str, str] = {**header.meta, **file.meta}
        if header.num_frames == 1:
            return [replace(file, meta=meta)]
        records = []
        for frame in range(header.num_frames):
            name = self._name(file, frame + 1, frame)
            frame_meta = {**meta, "frame": str(frame + 1)}
            records.append(replace(file, id=name, meta=frame_meta))
        return records
