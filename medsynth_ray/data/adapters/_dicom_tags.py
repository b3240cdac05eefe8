"""What is read of a DICOM header: an allow-list of tags, never a name, a date or a UID; the patient as a keyed hash."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import os
import stat
import struct
import warnings
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from medsynth_ray.data._decode import MAX_PIXELS
from medsynth_ray.data._refused import Refused
from medsynth_ray.errors import ConfigError

META = {
    "Modality": "modality", "ViewPosition": "view_position", "BodyPartExamined": "body_part",
    "Laterality": "laterality", "ImageLaterality": "image_laterality", "Manufacturer": "manufacturer",
    "ManufacturerModelName": "manufacturer_model", "PatientSex": "sex", "PatientAge": "age",
}  # fmt: skip
"""Tags that become metadata, and their names there."""
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_TAGS = [
    *META, *GROUPS, "PatientID", "SOPClassUID", "BurnedInAnnotation", "Rows", "Columns", "NumberOfFrames",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "WindowCenter", "WindowWidth",
    "VOILUTSequence",
]  # fmt: skip
_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_GREY = (
    "WindowCenter", "WindowWidth", "VOILUTSequence", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
)  # fmt: skip
_DEFLATED = "1.2.840.10008.1.2.1.99"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_OFTEN_BURNED_IN = ("US", "IVUS", "ES", "SC", "OT")  # codespell:ignore
"""Modalities whose images often show the patient's name."""
MIN_KEY_BYTES = 16
_LONG_ID = 4
"""An id of fewer letters and digits is found by chance inside other texts."""


@dataclass(frozen=True)
class Header:
    """What decides whether and how an image is used.

    missing: transfer syntax and what its decoder lacks, "" for nothing. num_bytes: the file has at least so many.
    needs_window: more than 8 gray bits and no window. burned_in: why the pixels may show a name, "" for nothing.
    """

    missing: str
    rows: int
    columns: int
    num_frames: int
    num_bytes: int
    needs_window: bool
    burned_in: str
    patient_id: str
    meta: dict[str, str]


def pydicom(module: str = "") -> Any:
    """The module pydicom, or one below it.

    Raises:
        ConfigError: pydicom is not installed.
    """
    try:
        return importlib.import_module(f"pydicom{module}")
    except ImportError as error:
        text = f"data.adapter dicom needs pydicom ({error}); pip install 'medsynth-ray[medical]'"
        raise ConfigError(text) from error


def broken() -> tuple[type[Exception], ...]:
    """What pydicom raises on damaged files. Its messages may hold values of tags, so only their kind may be told."""
    return (
        OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, EOFError,
        MemoryError, struct.error, pydicom(".errors").BytesLengthException,
    )  # fmt: skip


def read_header(file: BinaryIO) -> Header:
    """The header of an open file.

    Raises:
        Refused: not DICOM ("not_dicom"), DICOM but no image ("no_pixels"), deflated ("transfer_syntax"), or damaged
            ("unreadable").
    """
    reader = pydicom(".filereader")
    try:
        with warnings.catch_warnings():
            # pydicom warns of invalid values by printing them.
            warnings.simplefilter("ignore")
            syntax = _transfer_syntax(file)
            if syntax == _DEFLATED:
                # pydicom would inflate the whole file, to whatever size, for the header alone.
                raise Refused("transfer_syntax", f"{_syntax_name(syntax)}: not read, it inflates without a limit")
            file.seek(0)
            dataset = reader.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
            return _header(dataset, syntax, file.tell())
    except pydicom(".errors").InvalidDicomError as error:
        raise Refused("not_dicom", "no DICOM preamble") from error
    except broken() as error:
        raise Refused("unreadable", f"damaged header ({type(error).__name__})") from None


def check_size(header: Header, file_size: int, max_pixels: int) -> None:
    """Compare what the header says with the file and with limits, before a pixel is decoded.

    Raises:
        Refused: too large ("too_many_pixels"), or the file is smaller than its pixels ("unreadable").
    """
    area, frames = header.rows * header.columns, header.num_frames
    what = f"{header.rows} x {header.columns} x {frames} frames"
    if area > MAX_PIXELS or area * frames > max_pixels:
        raise Refused("too_many_pixels", f"{what}; at most {MAX_PIXELS} a frame, {max_pixels} a file (data.max_pixels)")
    if area < 1 or frames < 1:
        raise Refused("unreadable", what)
    if header.num_bytes > file_size:
        raise Refused("unreadable", f"cut off: {what} need a file of {header.num_bytes} bytes, it has {file_size}")


def flatten(dataset: Any, frame: int) -> Any:
    """Copy rescale and window of a frame from the functional groups of an enhanced object to where others have them.

    Those that are there but empty, as many writers leave them, are taken away.
    """
    for name, place in zip(GROUPS, (0, frame), strict=True):
        groups = dataset.get(name) or []
        for macro in _MACROS if place < len(groups) else ():
            for item in groups[place].get(macro) or []:
                dataset.update(item)
    for name in _GREY:
        if name in dataset and _is_empty(dataset.get_item(name).value):
            del dataset[name]
    return dataset


def patient_key(variable: str, path: str | None) -> bytes:
    """The secret under which patients are hashed: of a file that only its owner may read, or of the environment.

    Raises:
        ConfigError: it is missing, may be read by others, or is short.
    """
    where = f"data.patient_key_file {path!r}" if path else f"environment variable {variable} (data.patient_key_env)"
    key = _key_in_file(os.path.expanduser(path), where) if path else os.environ.get(variable, "").encode()
    key = key.strip()
    if not key:
        raise ConfigError(f"{where} is not set; it holds the secret under which patient ids are hashed")
    if len(key) < MIN_KEY_BYTES:
        # Patient ids are few and short: with a key that can be guessed they can be found by trying all.
        raise ConfigError(f"{where} holds {len(key)} bytes; {MIN_KEY_BYTES} or more are needed")
    return key


def hashed(patient_id: str, key: bytes) -> str:
    """HMAC-SHA256 of a patient's id, 32 hex digits."""
    return hmac.new(key, patient_id.encode(), hashlib.sha256).hexdigest()[:32]


def reveals(text: str, patient_id: str) -> bool:
    """Whether a path or another text holds a patient's id, whatever its case and its spaces, dashes and the like.

    An id of fewer than 4 letters and digits must be the whole text, or a whole part of the path or its stem.
    """
    wanted = _folded(patient_id)
    if len(wanted) >= _LONG_ID:
        return wanted in _folded(text)
    parts = [PurePosixPath(part) for part in text.split("/")]
    return wanted != "" and any(wanted in (_folded(part.name), _folded(part.stem)) for part in parts)


def is_telling(values: Iterable[str], patient_ids: Iterable[str]) -> bool:
    """Whether a column holds patients' ids: one of 4 letters and digits or more will do, of shorter ones half of all.

    Short ids meet by chance: a grade of 3 beside patient 3 does not make the grade an id.
    """
    pairs = [(value, patient) for value, patient in zip(values, patient_ids, strict=True) if value and _folded(patient)]
    short = [reveals(*pair) for pair in pairs if len(_folded(pair[1])) < _LONG_ID]
    found = any(reveals(*pair) for pair in pairs if len(_folded(pair[1])) >= _LONG_ID)
    return found or (any(short) and 2 * sum(short) >= len(short))


def _folded(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _key_in_file(path: str, where: str) -> bytes:
    try:
        with open(path, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise ConfigError(f"{where} may be read by others (mode {mode:04o}); chmod 600 it")
            return file.read()
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror})") from error


def _is_empty(value: Any) -> bool:
    """Whether the value of an element, converted or as stored, is none."""
    value = value.strip() if isinstance(value, bytes | str) else value
    return value is None or (isinstance(value, Sized) and len(value) == 0)


def _transfer_syntax(file: BinaryIO) -> str:
    reader = pydicom(".filereader")
    reader.read_preamble(file, force=False)
    meta = reader.read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    return str(meta.get("TransferSyntaxUID", ""))


def _header(dataset: Any, syntax: str, pixels_at: int) -> Header:
    if "Rows" not in dataset or "Columns" not in dataset:
        kind = _text(dataset, "SOPClassUID") or _text(dataset.file_meta, "MediaStorageSOPClassUID")
        if not kind or "Image Storage" in pydicom(".uid").UID(kind).name:
            raise Refused("unreadable", "an image without Rows and Columns, perhaps cut off")
        raise Refused("no_pixels", "")
    flatten(dataset, 0)
    photometric = _text(dataset, "PhotometricInterpretation")
    rows, columns, frames = (int(dataset.get(name) or 1) for name in ("Rows", "Columns", "NumberOfFrames"))
    samples = 2 if photometric == "YBR_FULL_422" else int(dataset.get("SamplesPerPixel") or 1)
    bits = int(dataset.get("BitsAllocated") or 8)
    missing = _missing(syntax)
    compressed = bool(missing) or pydicom(".uid").UID(syntax).is_compressed
    # A compressed frame takes 8 bytes or more.
    num_bytes = 8 * frames if compressed else rows * columns * samples * frames * bits // 8
    windowed = ("WindowCenter" in dataset and "WindowWidth" in dataset) or "VOILUTSequence" in dataset
    deep = int(dataset.get("BitsStored") or bits) > 8
    return Header(
        missing, rows, columns, frames, pixels_at + num_bytes,
        photometric.startswith("MONOCHROME") and deep and not windowed,
        _burned_in(dataset), _text(dataset, "PatientID"), _meta(dataset),
    )  # fmt: skip


def _missing(syntax: str) -> str:
    """Why pydicom cannot decode a transfer syntax here, "" if it can."""
    if not syntax:
        return "none is named in the file"
    try:
        decoder = pydicom(".pixels").get_decoder(syntax)
    except NotImplementedError:
        return f"{_syntax_name(syntax)}: pydicom does not know it"
    needed = " or ".join(text.partition("requires ")[2] for text in decoder.missing_dependencies)
    return "" if decoder.is_available else f"{_syntax_name(syntax)}: needs {needed}"


def _syntax_name(syntax: str) -> str:
    name = str(pydicom(".uid").UID(syntax).name)
    return name if name == syntax else f"{name} ({syntax})"


def _burned_in(dataset: Any) -> str:
    """Why the pixels may show the patient's name, "" if nothing says so."""
    said = _text(dataset, "BurnedInAnnotation").upper()
    if said == "YES":
        return "BurnedInAnnotation is YES"
    captured = _text(dataset, "SOPClassUID").startswith(_SECONDARY_CAPTURE)
    modality = _text(dataset, "Modality")
    if not said and (captured or modality in _OFTEN_BURNED_IN):
        return f"no BurnedInAnnotation in {'a secondary capture' if captured else modality}"
    return ""


def _meta(dataset: Any) -> dict[str, str]:
    meta = {name: _text(dataset, keyword) for keyword, name in META.items() if _text(dataset, keyword)}
    if "sex" in meta:
        meta["sex"] = {"F": "female", "M": "male", "O": "other"}.get(meta["sex"], "")
    if "age" in meta:
        meta["age"] = _years(meta["age"])
    return meta


def _years(age: str) -> str:
    """`045Y` -> "45", `018M` -> "1"; all of 90 and more are "90", since a greater age can identify."""
    per_year = {"Y": 1, "M": 12, "W": 52, "D": 365}.get(age[-1:], 0)
    return str(min(90, int(age[:-1]) // per_year)) if per_year and age[:-1].isdecimal() else ""


def _text(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()
