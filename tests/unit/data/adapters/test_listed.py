"""What all adapters of listed images share, each on a miniature in its published layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medsynth_ray.data.adapters._listed import common, stem
from medsynth_ray.data.dataset import prepare
from medsynth_ray.errors import AuditError
from medsynth_ray.sections import DataConfig, SplitConfig
from tests.unit.data.adapters import layouts
from tests.unit.data.adapters.scans import found, scan

Build = Callable[[Path], Path]
BUILDERS: dict[str, Build] = {
    "odir": lambda root: layouts.odir(root, [("normal fundus", "cataract")] * 12),
    "isic2019": lambda root: layouts.isic2019(root, {"MEL": 12, "NV": 12}),
    "isic2020": lambda root: layouts.isic2020(root, {"benign": 12, "malignant": 12}),
    "ham10000": lambda root: layouts.ham10000(root, {"mel": 12, "nv": 12}),
    "fitzpatrick17k": lambda root: layouts.fitzpatrick17k(root, {"benign": 12, "malignant": 12}),
    "nih_cxr14": lambda root: layouts.nih_cxr14(root, ["No Finding", "Mass"] * 12),
    "aptos": lambda root: layouts.aptos(root, [12, 0, 12, 0, 0]),
}
WITHOUT_PATIENTS = ("aptos", "fitzpatrick17k")
TABLES = {
    "odir": ("full_df.csv", "Left-Fundus"),
    "isic2019": ("ISIC_2019_Training_GroundTruth.csv", "MEL"),
    "isic2020": ("train.csv", "patient_id"),
    "ham10000": ("HAM10000_metadata.csv", "dx"),
    "fitzpatrick17k": ("fitzpatrick17k.csv", "three_partition_label"),
    "nih_cxr14": ("Data_Entry_2017.csv", "Finding Labels"),
    "aptos": ("train.csv", "diagnosis"),
}


@pytest.mark.parametrize("adapter", BUILDERS)
def test_a_miniature_becomes_a_data_set(adapter: str, tmp_path: Path) -> None:
    groups = "none" if adapter in WITHOUT_PATIENTS else "required"
    root = BUILDERS[adapter](tmp_path)
    config = DataConfig(adapter=adapter, root=str(root), resolution=16, groups=groups, min_class_images=4)
    data = prepare(config, SplitConfig(val_share=0.25, test_share=0.25))
    assert [sum(counts) for counts in zip(*data.counts().values(), strict=True)] == [12, 12]
    assert [f.kind for f in data.findings if f.severity == "quarantine"] == []
    assert len(set(data.images.groups)) == (24 if adapter in WITHOUT_PATIENTS else 12)


@pytest.mark.parametrize("adapter", BUILDERS)
def test_bytes_are_those_of_the_file(adapter: str, tmp_path: Path) -> None:
    root = BUILDERS[adapter](tmp_path)
    built, records = scan(adapter, root)
    record = next(iter(records.values()))
    assert built.read(record) == (root / record.id).read_bytes()


@pytest.mark.parametrize("adapter", BUILDERS)
def test_a_missing_table_is_named(adapter: str, tmp_path: Path) -> None:
    root = BUILDERS[adapter](tmp_path)
    name = TABLES[adapter][0]
    (root / name).rename(root / "renamed.txt")
    with pytest.raises(AuditError) as caught:
        scan(adapter, root)
    assert name in str(caught.value)
    assert "in it or below it" in str(caught.value)


@pytest.mark.parametrize("adapter", BUILDERS)
def test_a_missing_column_is_named_with_those_that_are_there(adapter: str, tmp_path: Path) -> None:
    root = BUILDERS[adapter](tmp_path)
    name, column = TABLES[adapter]
    layouts.edit(root / name, column, "renamed")
    with pytest.raises(AuditError, match=rf"{name}: no column '{column}'; there are: .*renamed"):
        scan(adapter, root)


@pytest.mark.parametrize(
    ("adapter", "severity"), [(name, "warn" if name == "fitzpatrick17k" else "quarantine") for name in BUILDERS]
)
def test_a_missing_image_is_named(adapter: str, severity: str, tmp_path: Path) -> None:
    root = BUILDERS[adapter](tmp_path)
    record = next(iter(scan(adapter, root)[1].values()))
    (root / record.id).unlink()
    built, records = scan(adapter, root)
    assert found(built)[severity, "row_without_file"] == (stem(record.id),)
    assert len(records) == 23


@pytest.mark.parametrize(("allow", "severity"), [(True, "warn"), (False, "quarantine")])
def test_a_part_of_the_download_is_enough_if_the_sweep_says_so(tmp_path: Path, allow: bool, severity: str) -> None:
    root = BUILDERS["ham10000"](tmp_path)
    for image in (root / "HAM10000_images_part_2").iterdir():
        image.unlink()
    built, records = scan("ham10000", root, allow_missing=allow)
    assert len(found(built)[severity, "row_without_file"]) == 12
    assert len(records) == 12


def test_all_images_missing_is_an_error(tmp_path: Path) -> None:
    root = BUILDERS["isic2019"](tmp_path)
    for number, image in enumerate(sorted((root / "ISIC_2019_Training_Input").glob("*.jpg"))):
        image.rename(image.with_name(f"{number}.jpg"))
    with pytest.raises(
        AuditError, match="none of the 24 images that .*GroundTruth.csv .* list is there, such as ISIC_"
    ):
        scan("isic2019", root, allow_missing=True)


def test_classes_choose(tmp_path: Path) -> None:
    root = layouts.isic2019(tmp_path, {"MEL": 2, "NV": 3, "BCC": 1, "DF": 2})
    built, records = scan("isic2019", root, classes=["MEL", "BCC"])
    assert sorted(r.label for r in records.values()) == ["BCC", "MEL", "MEL"]
    assert len(found(built)["info", "other_class"]) == 5
    assert "ISIC_0000002_downsampled (NV)" in next(f.message for f in built.findings if f.kind == "other_class")


def test_a_class_that_does_not_exist_is_named(tmp_path: Path) -> None:
    root = layouts.isic2019(tmp_path, {"MEL": 2, "NV": 2})
    with pytest.raises(AuditError, match=r"data.classes: no image of class 'melanoma'; there are: MEL, NV$"):
        scan("isic2019", root, classes=["NV", "melanoma"])


def test_a_folder_chooses_between_copies(tmp_path: Path) -> None:
    root = layouts.ham10000(tmp_path, {"mel": 2, "nv": 2})
    layouts.paint(root / "small" / "ISIC_0024306.jpg", 77)
    built, records = scan("ham10000", root)
    assert records["ISIC_0024306.jpg"].id == "HAM10000_images_part_1/ISIC_0024306.jpg"
    assert found(built) == {("warn", "same_name"): ("HAM10000_images_part_1/ISIC_0024306.jpg",)}
    built, records = scan("ham10000", root, images_in="small", allow_missing=True)
    assert [r.id for r in records.values()] == ["small/ISIC_0024306.jpg"]
    assert len(found(built)["info", "other_folder"]) == 4


def test_a_folder_that_does_not_exist_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    root = layouts.ham10000(tmp_path, {"mel": 2, "nv": 2})
    with pytest.raises(AuditError, match="data.images_in is 'pics': .*; there are: HAM10000_images_part_1, HAM1"):
        scan("ham10000", root, images_in="pics")


def test_rows_that_occur_twice(tmp_path: Path) -> None:
    root = layouts.ham10000(tmp_path, {"mel": 2, "nv": 2})
    with (root / "HAM10000_metadata.csv").open("a") as file:
        file.write("HAM_0000000,ISIC_0024306,mel,histo,80.0,male,scalp\n")
        file.write("HAM_0000000,ISIC_0024307,nv,histo,80.0,unknown,scalp\n")
    built, records = scan("ham10000", root)
    assert found(built) == {
        ("warn", "repeated_row"): ("ISIC_0024306",),
        ("quarantine", "repeated_row"): ("ISIC_0024307",),
        ("info", "file_without_row"): ("HAM10000_images_part_2/ISIC_0024307.jpg",),
    }
    assert len(records) == 3


def test_two_files_of_the_tables_name_are_an_error(tmp_path: Path) -> None:
    root = layouts.ham10000(tmp_path, {"mel": 2, "nv": 2})
    text = (root / "HAM10000_metadata.csv").read_text()
    (root / "HAM10000_images_part_1" / "ham10000_metadata.csv").write_text(text)
    with pytest.raises(AuditError, match="several files are called HAM10000_metadata.csv: HAM.*; keep one"):
        scan("ham10000", root)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.JPG", "b"),
        ("a.b/c.d", "c.d"),
        ("ISIC_1", "ISIC_1"),
        ("x/1.2.840.png", "1.2.840"),
        ("e\u0301.png", "\u00e9"),
    ],
)
def test_stem_drops_folders_and_extensions_of_images(path: str, name: str) -> None:
    assert stem(path) == name


@pytest.mark.parametrize(
    ("row", "meta"),
    [
        ({"a": "058Y", "s": "M"}, {"age": "58", "sex": "male"}),
        ({"a": "45.0", "s": "Female"}, {"age": "45", "sex": "female"}),
        ({"a": "011M", "s": "unknown"}, {"age": "011M", "sex": ""}),
        ({"a": ""}, {"age": ""}),
    ],
)
def test_age_and_sex_are_spelled_alike(row: dict[str, str], meta: dict[str, str]) -> None:
    assert common(row, age="a", sex="s") == meta
