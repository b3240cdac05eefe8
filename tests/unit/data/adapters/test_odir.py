from __future__ import annotations

import csv
import os
from pathlib import Path

import pandas as pd
import pytest

from medsynth_ray.data.adapters.odir import CLASSES, eye_letters
from medsynth_ray.errors import AuditError, ConfigError
from tests.unit.data.adapters import layouts
from tests.unit.data.adapters.scans import found, scan

PATIENTS = [
    ("cataract", "normal fundus"),
    ("moderate non proliferative retinopathy\uff0challo", "hypertensive retinopathy\uff0ccataract"),
    ("lens dust\uff0cnormal fundus", "low image quality"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return layouts.odir(tmp_path, PATIENTS)


def test_both_eyes_of_a_patient_are_one_group_with_a_label_each(root: Path) -> None:
    adapter, records = scan("odir", root)
    assert {name: (r.label, r.group, r.meta["labels"]) for name, r in records.items()} == {
        "0_left.jpg": ("cataract", "0", "C"),
        "0_right.jpg": ("normal", "0", "N"),
        "1_left.jpg": ("diabetes", "1", "D;O"),
        "1_right.jpg": ("cataract", "1", "C;H"),
        "2_left.jpg": ("normal", "2", "N"),
    }
    assert records["1_right.jpg"].meta == {
        "eye": "right",
        "keywords": "hypertensive retinopathy\uff0ccataract",
        "labels": "C;H",
        "age": "41",
        "sex": "male",
    }
    assert found(adapter) == {("info", "left_out"): ("2_right",)}
    assert "2_right (no diagnosis of the eye: low image quality)" in adapter.findings[0].message


@pytest.mark.parametrize(
    ("settings", "label"),
    [({"order": "HDGCAMO"}, "hypertension"), ({"order": "OMACGHD"}, "cataract"), ({"several": "drop"}, None)],
)
def test_several_diagnoses_of_an_eye(root: Path, settings: dict[str, str], label: str | None) -> None:
    adapter, records = scan("odir", root, **settings)
    assert (records["1_right.jpg"].label if label else records.get("1_right.jpg")) == label
    dropped = ("1_left", "1_right") if label is None else ()
    assert found(adapter)["info", "left_out"] == (*dropped, "2_right")


@pytest.mark.parametrize(
    ("keywords", "letters"),
    [
        ("normal fundus", "N"),
        ("normal fundus\uff0clens dust", "N"),
        ("normal fundus\uff0cmyelinated nerve fibers", "O"),
        ("mild nonproliferative retinopathy", "D"),
        ("Suspected Diabetic Retinopathy", "D"),
        ("proliferative diabetic retinopathy\uff0chypertensive retinopathy", "DH"),
        ("suspected glaucoma, cataract", "CG"),
        ("wet age-related macular degeneration", "A"),
        ("myopia retinopathy", "M"),
        ("myopic maculopathy", "M"),
        ("central serous chorioretinopathy", "O"),
        ("macular epiretinal membrane\uff0cepiretinal membrane", "O"),
        ("low image quality\uff0canterior segment image", ""),
        ("", ""),
    ],
)
def test_letters_of_an_eye(keywords: str, letters: str) -> None:
    assert eye_letters(keywords) == set(letters)


@pytest.mark.parametrize("order", ["", "DGCAHM", "DGCAHMON", "DDGCAHM"])
def test_an_order_that_is_not_complete_is_refused(root: Path, order: str) -> None:
    with pytest.raises(ConfigError, match="order must hold each of the letters DGCAHMO once, got"):
        scan("odir", root, order=order)


def test_rows_of_one_eye_that_differ_are_an_error(root: Path) -> None:
    lines = (root / "full_df.csv").read_text(encoding="utf-8").splitlines()
    lines[2] = lines[2].replace("normal fundus", "drusen")
    (root / "full_df.csv").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(AuditError, match="full_df.csv: the rows of 0_right.jpg differ"):
        scan("odir", root)


def test_the_smaller_copies_are_read_if_the_sweep_says_so(root: Path) -> None:
    layouts.paint(root / "preprocessed_images" / "0_left.jpg", 5, size_px=16)
    settings = {"images_in": "preprocessed_images", "allow_missing": True}
    assert [r.id for r in scan("odir", root, **settings)[1].values()] == ["preprocessed_images/0_left.jpg"]
    assert "0_left.jpg" in scan("odir", root)[1]


def workbook(root: Path, content: bytes = b"PK") -> Path:
    (root / "full_df.csv").unlink()
    (root / "ODIR-5K" / "ODIR-5K" / "data.xlsx").write_bytes(content)
    return root


def test_a_workbook_without_openpyxl_says_what_to_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(AuditError, match=r"data.xlsx: reading a workbook needs openpyxl, .*or save the sheet as CSV"):
        scan("odir", workbook(root))


def test_a_workbook_is_read_like_a_table(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.read_csv(root / "full_df.csv", dtype=str, keep_default_na=False)
    before = {name: (r.label, r.meta) for name, r in scan("odir", root)[1].items()}
    monkeypatch.setattr(pd, "read_excel", lambda *_, **__: frame)
    assert {name: (r.label, r.meta) for name, r in scan("odir", workbook(root))[1].items()} == before


def test_a_damaged_workbook_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("File is not a zip file")

    monkeypatch.setattr(pd, "read_excel", fail)
    with pytest.raises(AuditError, match=r"data.xlsx: no readable workbook \(File is not a zip file\)"):
        scan("odir", workbook(root))


@pytest.mark.real
def test_letters_are_those_of_a_real_copy_but_for_one_eye() -> None:
    repository = Path(__file__).parents[4]
    table = Path(os.environ.get("MEDSYNTH_REAL_DATA") or repository / "../shared/data") / "odir_fundus" / "metadata.csv"
    if not table.exists():
        pytest.skip(f"no real images: {table} is not there")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == set(CLASSES.values())
    single = [row for row in rows if len(row["repo_letters"]) == 1]
    differ = [row["file"] for row in single if row["repo_letters"] not in eye_letters(row["keywords"])]
    # That copy calls maculopathy A; the publisher's row of patient 372 has O, as here.
    assert (len(single), differ) == (5937, ["372_left.jpg"])
