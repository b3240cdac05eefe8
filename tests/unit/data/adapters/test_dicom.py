from __future__ import annotations

import hashlib
import hmac
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from medsynth_ray.data._refused import Refused
from medsynth_ray.data.adapters._dicom_pixels import windowed
from medsynth_ray.data.adapters.dicom import Dicom
from medsynth_ray.data.dataset import audit, prepare
from medsynth_ray.errors import AuditError, ConfigError
from medsynth_ray.protocols import Spec
from medsynth_ray.registry import configure
from medsynth_ray.sections import DataConfig, SplitConfig

Write = Callable[..., Path]
KEY = "a-secret-of-many-bytes"
SECRETS = ("Doe^Jane", "MRN0042", "19470312", "ACC-77", "St. Elsewhere", "1.2.826.0.1.99")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDSYNTH_PATIENT_KEY", KEY)


def pixels_of(size: int = 8, *, high: int = 4096, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, high, (size, size)).astype(np.uint16)


def dataset(pixels: np.ndarray, **tags: Any) -> FileDataset:
    """A CT-like object with a patient planted in it; `tags` override, None takes a tag away."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = tags.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.99"
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    frames = pixels.shape[0] if pixels.ndim == 3 and pixels.shape[-1] != 3 else None
    shape = pixels.shape[1:] if frames else pixels.shape
    defaults = {
        "SOPClassUID": CTImageStorage, "SOPInstanceUID": "1.2.826.0.1.99", "Modality": "CT", "PatientName": "Doe^Jane",
        "PatientID": "MRN0042", "PatientBirthDate": "19470312", "StudyDate": "19470312", "AccessionNumber": "ACC-77",
        "InstitutionName": "St. Elsewhere", "PatientSex": "F", "PatientAge": "077Y", "BodyPartExamined": "CHEST",
        "Manufacturer": "ACME", "Rows": shape[0], "Columns": shape[1], "NumberOfFrames": frames,
        "SamplesPerPixel": 3 if pixels.shape[-1] == 3 else 1,
        "PhotometricInterpretation": "RGB" if pixels.shape[-1] == 3 else "MONOCHROME2",
        "PlanarConfiguration": 0 if pixels.shape[-1] == 3 else None,
        "BitsAllocated": pixels.dtype.itemsize * 8, "BitsStored": pixels.dtype.itemsize * 8,
        "HighBit": pixels.dtype.itemsize * 8 - 1, "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
    }  # fmt: skip
    for name, value in {**defaults, **tags}.items():
        if value is not None:
            setattr(made, name, value)
    return made


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes one object below root, default 16-bit and without window."""

    def save(path: str = "a/x.dcm", pixels: np.ndarray | None = None, **tags: Any) -> Path:
        target = tmp_path / "root" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        dataset(pixels_of() if pixels is None else pixels, **tags).save_as(target, enforce_file_format=True)
        return tmp_path / "root"

    return save


def build(root: Path, **settings: object) -> tuple[Dicom, list]:
    adapter = Dicom.Config(root=str(root), **settings).build()
    return adapter, adapter.scan()


def first_image(root: Path, **settings: object) -> np.ndarray:
    adapter, records = build(root, **settings)
    return adapter.read(records[0])


def found(adapter: Dicom) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {f.kind: (f.severity, f.ids) for f in adapter.findings}


def test_ct_with_slope_intercept_and_window_is_the_formula_of_the_standard(write: Write) -> None:
    stored = np.arange(-32, 32, dtype=np.int16).reshape(8, 8) * 40
    root = write(pixels=stored, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=40, WindowWidth=400)
    values = stored.astype(float) * 2 - 100
    expected = np.clip(((values - 39.5) / 399 + 0.5) * 255, 0, 255)  # PS3.3 C.11.2.1.2.1
    assert (first_image(root) == np.rint(expected)).all()


def test_a_window_in_the_settings_wins_over_the_first_of_several_in_the_file(write: Write) -> None:
    stored = np.arange(64, dtype=np.uint16).reshape(8, 8)
    root = write(pixels=stored, WindowCenter=[32.5, 500], WindowWidth=[65, 9])
    assert (first_image(root) == np.rint(stored / 64 * 255)).all()
    narrow = first_image(root, voi_window=[10.5, 11])
    assert (narrow == np.rint(np.clip((stored - 5.0) * 25.5, 0, 255))).all()


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # in pydicom
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(0.5, 1.0), (100.0, 37.0), (-900.0, 1500.0)])
def test_windowing_agrees_with_pydicom(function: str, centre: float, width: float) -> None:
    values = np.arange(-2048, 2048, dtype=np.int16)
    header = dataset(values.reshape(64, 64), WindowCenter=centre, WindowWidth=width, VOILUTFunction=function)
    theirs = (apply_windowing(values, header) + 2**15) / (2**16 - 1) * 255
    largest = np.abs(windowed(values, centre, width, function).astype(float) - theirs).max()
    assert largest <= 0.5 + 1e-9, largest


def test_monochrome1_is_turned_round(write: Write) -> None:
    stored = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert (first_image(write(pixels=stored, PhotometricInterpretation="MONOCHROME1")) == 255 - stored).all()


@pytest.mark.parametrize(("bits", "high"), [(12, 4095), (16, 65535)])
def test_without_a_window_the_whole_stored_range_is_shown_and_said(write: Write, bits: int, high: int) -> None:
    stored = pixels_of(high=high + 1)
    root = write(pixels=stored, BitsStored=bits, HighBit=bits - 1)
    adapter, records = build(root)
    assert (adapter.read(records[0]) == np.rint(stored * (255 / high))).all()
    assert found(adapter)["no_window"] == ("warn", ("a/x.dcm",))
    assert "no_window" not in found(build(root, voi_window=[100, 200])[0])


def test_a_modality_table_and_a_voi_table_are_applied(write: Write) -> None:
    def table(values: list[int]) -> Sequence:
        item = Dataset()
        item.LUTDescriptor = [len(values), 0, 16]
        item.LUTData = np.array(values, dtype="<u2").tobytes()
        item.ModalityLUTType = "US"
        return Sequence([item])

    stored = np.array([[0, 1], [2, 3]], dtype=np.uint16)
    root = write(
        pixels=stored, ModalityLUTSequence=table([3, 2, 1, 0]), VOILUTSequence=table([0, 257 * 10, 257 * 20, 65535])
    )
    assert first_image(root).tolist() == [[255, 20], [10, 0]]


def test_colour_is_rgb_and_compressed_files_are_read(write: Write) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    root = write(pixels=colour, Modality="XC")
    assert (first_image(root) == colour).all()
    packed = dataset(pixels_of(), WindowCenter=2048, WindowWidth=4096)
    packed.compress(RLELossless)
    packed.save_as(root / "a" / "rle.dcm", enforce_file_format=True)
    adapter, records = build(root)
    expected = windowed(pixels_of(), 2048, 4096)
    assert (adapter.read(records[0]) == expected).all()


def test_ybr_is_converted(write: Write) -> None:
    ybr = np.zeros((8, 8, 3), dtype=np.uint8) + np.array([76, 85, 255], dtype=np.uint8)
    image = first_image(write(pixels=ybr, PhotometricInterpretation="YBR_FULL", Modality="XC"))
    assert np.abs(image.astype(int) - [254, 0, 0]).max() <= 1


def test_a_palette_is_written_out(write: Write) -> None:
    index = np.arange(4, dtype=np.uint8).reshape(2, 2)
    tables = {}
    for colour, step in (("Red", 1), ("Green", 2), ("Blue", 3)):
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        entries = np.arange(4, dtype="<u2") * step * 257
        tables[f"{colour}PaletteColorLookupTableData"] = entries.tobytes()
    root = write(pixels=index, PhotometricInterpretation="PALETTE COLOR", **tables)
    assert first_image(root).tolist() == [[[0, 0, 0], [1, 2, 3]], [[2, 4, 6], [3, 6, 9]]]


def test_frames_become_images_of_one_group(write: Write) -> None:
    stack = np.stack([pixels_of(high=256, seed=s).astype(np.uint8) for s in range(3)])
    adapter, records = build(write(pixels=stack))
    assert [r.id for r in records] == ["a/x.dcm#0001", "a/x.dcm#0002", "a/x.dcm#0003"]
    assert len({r.group for r in records}) == 1
    assert {r.label for r in records} == {"a"}
    assert [r.meta["frame"] for r in records] == ["1", "2", "3"]
    assert (np.stack([adapter.read(r) for r in records]) == stack).all()


def test_windows_of_an_enhanced_object_are_those_of_the_frame(write: Write) -> None:
    def item(**tags: Any) -> Dataset:
        made = Dataset()
        for name, value in tags.items():
            setattr(made, name, value)
        return made

    stack = np.stack([np.arange(64, dtype=np.uint16).reshape(8, 8)] * 2)
    shared = item(PixelValueTransformationSequence=Sequence([item(RescaleSlope=1, RescaleIntercept=10)]))
    frames = [item(FrameVOILUTSequence=Sequence([item(WindowCenter=c, WindowWidth=11)])) for c in (15.5, 25.5)]
    root = write(
        pixels=stack,
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
    )
    adapter, records = build(root)
    for record, low in zip(records, (10.0, 20.0), strict=True):
        assert (adapter.read(record) == np.rint(np.clip((stack[0] + 10.0 - low) * 25.5, 0, 255))).all()
    assert "no_window" not in found(adapter)


def test_only_allowed_tags_come_out_and_no_planted_name_is_anywhere(
    write: Write, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write("b/y.dcm", WindowCenter=1, WindowWidth=2, BurnedInAnnotation="YES")
    root = write()
    (root / "b" / "cut.dcm").write_bytes((root / "a/x.dcm").read_bytes()[:-60])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        adapter, records = build(root)
        images = [adapter.read(r) for r in records]
    assert records[0].meta == {
        "modality": "CT", "body_part": "CHEST", "manufacturer": "ACME", "sex": "female", "age": "77",
    }  # fmt: skip
    out = capfd.readouterr()
    everything = repr([records, adapter.findings, caught, [i.tobytes() for i in images], out, caplog.text])
    assert [secret for secret in SECRETS if secret in everything] == []
    assert sorted(found(adapter)) == ["burned_in", "no_window", "unreadable"]


def test_damaged_values_are_not_printed(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    root = write()
    good = (root / "a/x.dcm").read_bytes()
    root = write("a/bad.dcm", NumberOfFrames="7")
    path = root / "a/bad.dcm"
    path.write_bytes(path.read_bytes().replace(b"IS\x02\x007 ", b"IS\x02\x00ZZ"))
    (root / "a" / "worse.dcm").write_bytes(good[:200] + b"Doe^Jane" * 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapter, records = build(root)
    assert [r.id for r in records] == ["a/x.dcm"]
    text = repr(adapter.findings) + repr(capfd.readouterr())
    assert "a/bad.dcm (damaged header (" in text
    assert "ZZ" not in text
    assert "Jane" not in text


@pytest.mark.parametrize(
    ("age", "years"), [("045Y", "45"), ("018M", "1"), ("089Y", "89"), ("090Y", "90"), ("101Y", "90"), ("old", "")]
)
def test_ages_are_years_and_the_oldest_are_one_group(write: Write, age: str, years: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of "old" when it is written
        root = write(PatientAge=age)
    assert build(root)[1][0].meta["age"] == years


def test_the_group_is_an_hmac_of_the_patient(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a/1.dcm", PatientID="P1")
    write("a/2.dcm", PatientID="P1 ")
    root = write("b/3.dcm", PatientID="P2")
    groups = [r.group for r in build(root)[1]]
    assert groups[0] == groups[1] == hmac.new(KEY.encode(), b"P1", hashlib.sha256).hexdigest()[:32]
    assert groups[2] != groups[0]
    monkeypatch.setenv("MEDSYNTH_PATIENT_KEY", "another-secret-of-many-bytes")
    assert build(root)[1][0].group != groups[0]


def test_without_a_key_it_stops_unless_a_table_or_no_patient_makes_it_needless(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDSYNTH_PATIENT_KEY")
    root = write()
    with pytest.raises(ConfigError, match=r"variable MEDSYNTH_PATIENT_KEY \(data.patient_key_env\) is not set"):
        build(root)
    with pytest.raises(ConfigError, match=r"environment variable OTHER \(data"):
        build(root, patient_key_env="OTHER")
    (root / "metadata.csv").write_text("path,label,group,split,dose\na/x.dcm,sick,p7,test,3\n")
    record = build(root)[1][0]
    assert (record.label, record.group, record.split, record.meta["dose"]) == ("sick", "p7", "test", "3")
    (root / "metadata.csv").unlink()
    assert build(write(PatientID=""))[1][0].group is None


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (KEY, 0o644, r"may be read by others \(mode 0644\); chmod 600 it"),
        (KEY, 0o640, r"\(mode 0640\)"),
        ("short", 0o600, "holds 5 bytes; 16 or more are needed"),
        (" \n", 0o600, "is not set"),
        (None, 0o600, "cannot be read"),
    ],
)
def test_a_key_file_must_be_secret_and_long(
    write: Write, tmp_path: Path, content: str | None, mode: int, message: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(ConfigError, match=message) as caught:
        build(write(), patient_key_file=str(path))
    assert KEY not in str(caught.value)


def test_a_key_file_gives_the_groups_of_the_same_key_in_the_environment(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    root = write()
    assert build(root, patient_key_file=str(path))[1][0].group == build(root)[1][0].group


def test_files_without_extension_are_known_by_their_preamble(write: Write) -> None:
    write("a/IM0001")
    root = write("b/1.2.840.55")
    (root / "DICOMDIR").write_bytes(b"x")
    (root / "a" / "README").write_text("hello")
    (root / "a" / "notes.txt").write_text("hello")
    adapter, records = build(root)
    assert [(r.id, r.label) for r in records] == [("a/IM0001", "a"), ("b/1.2.840.55", "b")]
    assert found(adapter)["other_files"] == ("info", ("a/notes.txt",))
    assert found(adapter)["not_dicom"] == ("info", ("DICOMDIR", "a/README"))


def test_split_folders_are_kept_beside_a_dicomdir(write: Write) -> None:
    write("train/sick/1.dcm")
    root = write("test/well/2.dcm")
    (root / "DICOMDIR").write_bytes((root / "test/well/2.dcm").read_bytes()[:300])
    assert [(r.label, r.split) for r in build(root)[1]] == [("well", "test"), ("sick", "train")]


def test_reports_and_other_modalities_are_left_out(write: Write) -> None:
    write("a/report.dcm", Rows=None, Columns=None, PixelData=None, Modality="SR", SOPClassUID=EncapsulatedPDFStorage)
    write("a/mask.dcm", Modality="SEG")
    adapter, records = build(write(), modalities=["CT"])
    assert [r.id for r in records] == ["a/x.dcm"]
    assert found(adapter)["no_pixels"] == ("info", ("a/report.dcm",))
    assert found(adapter)["other_modality"] == ("info", ("a/mask.dcm",))


@pytest.mark.parametrize(
    ("tags", "detail"),
    [
        ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation is YES"),
        ({"Modality": "US"}, "no BurnedInAnnotation in US"),
        ({"Modality": "DX", "SOPClassUID": SecondaryCaptureImageStorage}, "in a secondary capture"),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, None),
        ({}, None),
    ],
)
def test_names_burned_into_pixels_are_warned_of(write: Write, tags: dict, detail: str | None) -> None:
    messages = [f.message for f in build(write(**tags))[0].findings if (f.kind, f.severity) == ("burned_in", "warn")]
    assert len(messages) == (detail is not None)
    assert all(detail in message for message in messages if detail)


@pytest.mark.parametrize(
    ("path", "patient", "warned"),
    [
        ("a/MRN0042/x.dcm", "MRN0042", True),
        ("a/mrn-0042_1.dcm", "MRN0042", True),
        ("a/MRN0042.dcm", "mrn 00-42", True),
        ("a/MRN0043.dcm", "MRN0042", False),
        ("a/042/x.dcm", "042", True),
        ("a/0-42.dcm", "042", True),
        ("a/IM0042.dcm", "042", False),
        ("a/1.dcm", "--", False),
    ],
)
def test_a_path_that_holds_the_patient_is_warned_of(write: Write, path: str, patient: str, warned: bool) -> None:
    adapter = build(write(path, PatientID=patient))[0]
    assert found(adapter).get("patient_in_path") == (("warn", (path,)) if warned else None)


@pytest.mark.parametrize("how", ["table", "regex"])
def test_a_group_for_some_files_only_stops(write: Write, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.delenv("MEDSYNTH_PATIENT_KEY")
    write("a/s7_1.dcm")
    root = write("a/2.dcm")
    settings = {"group_regex": "(s[0-9]+)_"} if how == "regex" else {}
    if how == "table":
        (root / "metadata.csv").write_text("path,label,group\na/s7_1.dcm,x,s7\na/2.dcm,x,\n")
    adapter, records = build(root, **settings)
    assert found(adapter)["some_groups"] == ("stop", ("a/2.dcm",))
    assert [r.group for r in records] == [None, "s7"]
    text = next(f.message for f in adapter.findings if f.kind == "some_groups")
    assert text.startswith("1 of 2 files have no group in the table or by data.group_regex, the others have one")


def hash_of(text: str) -> str:
    return hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()[:32]


@pytest.mark.parametrize(
    ("patient", "row", "hidden"),
    [
        ("MRN0042", {"group": "MRN0042", "n": "1"}, ["group"]),
        ("MRN0042", {"group": "mrn-0042 left", "n": "1"}, ["group"]),
        ("MRN0042", {"group": "g", "who": "MRN0042"}, ["who"]),
        ("MRN0042", {"group": "MRN0042", "n": "1", "note": "seen: mrn0042"}, ["group", "note"]),
        ("42", {"group": "42", "n": "142"}, ["group"]),
        ("42", {"group": "g", "who": "42"}, ["who"]),
    ],
)
def test_what_holds_the_patient_in_a_table_is_hashed(
    write: Write, monkeypatch: pytest.MonkeyPatch, patient: str, row: dict[str, str], hidden: list[str]
) -> None:
    root = write("a/x.dcm", PatientID=patient)
    (root / "metadata.csv").write_text(f"path,label,{','.join(row)}\na/x.dcm,sick,{','.join(row.values())}\n")
    adapter, records = build(root)
    said = {"group": records[0].group, **records[0].meta}
    assert {c: said[c] for c in row} == {c: hash_of(text) if c in hidden else text for c, text in row.items()}
    texts = [(f.severity, f.message) for f in adapter.findings if f.kind == "patient_in_table"]
    expected = f"the PatientID is in {', '.join(hidden)} (of the table or data.group_regex), which is hashed"
    assert texts == [("warn", expected)]
    monkeypatch.delenv("MEDSYNTH_PATIENT_KEY")
    with pytest.raises(ConfigError, match="MEDSYNTH_PATIENT_KEY"):
        build(root)


def test_a_regex_that_finds_the_patient_gives_the_groups_of_the_header(write: Write) -> None:
    write("a/MRN0042_1.dcm")
    root = write("a/MRN0043_1.dcm", PatientID="MRN0043")
    assert [r.group for r in build(root, group_regex="(MRN[0-9]+)")[1]] == [r.group for r in build(root)[1]]


def test_a_short_number_that_meets_a_short_patient_by_chance_is_kept(write: Write) -> None:
    for number in (1, 2, 3):
        root = write(f"a/x{number}.dcm", PatientID=str(number))
    rows = [f"a/x{number}.dcm,sick,g{number},3\n" for number in (1, 2, 3)]
    (root / "metadata.csv").write_text("path,label,group,grade\n" + "".join(rows))
    adapter, records = build(root)
    assert [(r.group, r.meta["grade"]) for r in records] == [("g1", "3"), ("g2", "3"), ("g3", "3")]
    assert "patient_in_table" not in found(adapter)


@pytest.mark.parametrize(
    ("tags", "unwindowed"),
    [
        ({"WindowCenter": "", "WindowWidth": "", "RescaleSlope": "", "RescaleIntercept": ""}, True),
        ({"WindowCenter": 128, "WindowWidth": ""}, True),
        ({"VOILUTSequence": Sequence([]), "ModalityLUTSequence": Sequence([])}, True),
        ({"WindowCenter": 32768, "WindowWidth": 65536, "RescaleSlope": "", "RescaleIntercept": ""}, False),
    ],
)
def test_tags_that_are_there_but_empty_are_as_if_they_were_not(write: Write, tags: dict, unwindowed: bool) -> None:
    stored = pixels_of(high=65536)
    adapter, records = build(write(pixels=stored, **tags))
    assert ("no_window" in found(adapter)) == unwindowed
    assert (adapter.read(records[0]) == np.rint(stored / 257)).all()


@pytest.mark.parametrize(
    ("syntax", "detail"),
    [
        (JPEGLSLossless, "JPEG-LS Lossless Image Compression (1.2.840.10008.1.2.4.80): needs gdcm"),
        ("1.2.3.4", "1.2.3.4: pydicom does not know it"),
        (DeflatedExplicitVRLittleEndian, "Deflated Explicit VR Little Endian (1.2.840.10008.1.2.1.99): not read"),
    ],
)
def test_what_cannot_be_decoded_is_named_by_its_transfer_syntax(write: Write, syntax: str, detail: str) -> None:
    root = write()
    target = dataset(pixels_of())
    target.file_meta.TransferSyntaxUID = syntax
    if syntax != DeflatedExplicitVRLittleEndian:
        target.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8" * 10])
        target["PixelData"].VR = "OB"
        target["PixelData"].is_undefined_length = True
    implicit = {"implicit_vr": False, "little_endian": True} if syntax == "1.2.3.4" else {}
    target.save_as(root / "a" / "packed.dcm", **implicit)
    adapter, records = build(root)
    assert [r.id for r in records] == ["a/x.dcm"]
    assert found(adapter)["transfer_syntax"] == ("quarantine", ("a/packed.dcm",))
    assert any(detail in f.message for f in adapter.findings), adapter.findings


@pytest.mark.parametrize(
    ("tags", "settings", "kind", "detail"),
    [
        ({"Rows": 60000, "Columns": 60000}, {}, "too_many_pixels", "60000 x 60000 x 1 frames; at most 64000000"),
        ({"NumberOfFrames": 2000000000}, {}, "too_many_pixels", "8 x 8 x 2000000000 frames"),
        ({}, {"max_pixels": 63}, "too_many_pixels", "63 a file (data.max_pixels)"),
        ({"NumberOfFrames": 3}, {}, "unreadable", "cut off: 8 x 8 x 3 frames need a file of"),
        ({"NumberOfFrames": -1}, {}, "unreadable", "8 x 8 x -1 frames"),
    ],
)
def test_sizes_are_checked_in_the_header(write: Write, tags: dict, settings: dict, kind: str, detail: str) -> None:
    write("a/x.dcm", np.ones((1, 1), np.uint8))
    adapter, records = build(write("a/large.dcm", pixels_of(high=250).astype(np.uint8), **tags), **settings)
    assert [r.id for r in records] == ["a/x.dcm"]
    assert found(adapter)[kind] == ("quarantine", ("a/large.dcm",))
    assert any(detail in f.message for f in adapter.findings), adapter.findings


def test_a_compressed_file_cannot_claim_more_frames_than_it_has_bytes(write: Write) -> None:
    packed = dataset(pixels_of(size=4))
    packed.compress(RLELossless)
    packed.NumberOfFrames = 1_000_000
    root = write()
    packed.save_as(root / "a" / "rle.dcm", enforce_file_format=True)
    assert found(build(root)[0])["unreadable"] == ("quarantine", ("a/rle.dcm",))


@pytest.mark.parametrize(
    ("tags", "kind", "message"),
    [
        ({"WindowCenter": 1, "WindowWidth": 0}, "unreadable", "width -1 .LINEAR.; set data.voi_window"),
        ({"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "unreadable", "none of LINEAR"),
        ({"syntax": JPEGBaseline8Bit}, "unreadable", r"damaged, or not as its header says"),
    ],
)
def test_what_fails_while_decoding_is_refused(write: Write, tags: dict, kind: str, message: str) -> None:
    root = write()
    target = dataset(pixels_of(), **tags)
    if "syntax" in tags:
        target.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8" * 10])
        target["PixelData"].VR = "OB"
        target["PixelData"].is_undefined_length = True
    target.save_as(root / "a" / "bad.dcm", enforce_file_format=True)
    adapter, records = build(root)
    with pytest.raises(Refused, match=message) as caught:
        adapter.read(records[0])
    assert caught.value.kind == kind


def test_bytes_changed_at_random_give_findings_or_images_and_no_other_error(write: Write) -> None:
    root = write(WindowCenter=2048, WindowWidth=4096)
    good = (root / "a/x.dcm").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(150):
        data = np.frombuffer(good, dtype=np.uint8).copy()
        data[rng.integers(128, len(data), 6)] = rng.integers(0, 256, 6)
        (root / "a" / f"{number:03d}.dcm").write_bytes(data[: rng.integers(200, len(data) + 1)].tobytes())
    adapter, records = build(root, max_pixels=10_000)
    outcomes = []
    for record in records:
        try:
            outcomes.append(adapter.read(record).dtype.name)
        except Refused as error:
            outcomes.append(error.kind)
    assert set(outcomes) <= {"uint8", "unreadable", "high_depth"}
    assert len(outcomes) >= 1


def test_a_folder_without_an_image_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("hello")
    with pytest.raises(AuditError, match=r"no image that can be used below it: a.dcm \(unreadable no DICOM"):
        build(tmp_path)


def test_a_tree_goes_through_prepare(write: Write) -> None:
    for number in range(60):
        label = "ab"[number % 2]
        root = write(
            f"{label}/{number}.dcm", pixels_of(32, seed=number), PatientID=f"P{number // 4 * 2 + number % 2}",
            WindowCenter=2048, WindowWidth=4096,
        )  # fmt: skip
    config = DataConfig(adapter="dicom", root=str(root), resolution=8)
    data = prepare(config, SplitConfig())
    assert data.images.image_shape == (8, 8, 1)
    assert len(set(data.images.groups)) == 30
    assert data.findings == ()
    torn = [g for g in set(data.images.groups) if len(set(data.splits[data.images.groups == g])) > 1]
    assert torn == []


def test_what_cannot_be_decoded_is_quarantined_by_the_audit(write: Write) -> None:
    write("b/bad.dcm", WindowCenter=1, WindowWidth=0)
    findings, summary = audit(DataConfig(adapter="dicom", root=str(write()), resolution=8), SplitConfig())
    assert [f.ids for f in findings if f.kind == "unreadable"] == [("b/bad.dcm",)]
    assert (summary["images"], summary["usable"]) == (2, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root": "x", "voi_window": [40, 0.5]}, "the width must be at least 1, got 0.5"),
        ({"root": "x", "window_center": 1}, "unknown key"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configure("data", Spec(use="dicom", config=settings))


def test_a_missing_pydicom_names_the_extra(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ConfigError, match=r"pip install 'medsynth-ray\[medical\]'"):
        build(root)


def test_places_and_keys_are_not_science(tmp_path: Path) -> None:
    one = Dicom.Config(root="/a", patient_key_env="K1")
    assert one.identity() == Dicom.Config(root="/b", patient_key_file="/k").identity()
    assert one.identity() != Dicom.Config(root="/a", voi_window=(40, 400)).identity()
