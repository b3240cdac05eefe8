from __future__ import annotations

from pathlib import Path

import pytest

from medsynth_ray.errors import AuditError
from tests.unit.data.adapters import layouts
from tests.unit.data.adapters.scans import found, scan

FINDINGS = ["No Finding", "Mass", "Effusion|Mass", "Mass", "Cardiomegaly|Edema|Mass", "No Finding"]


@pytest.mark.parametrize("v2020", [False, True])
def test_label_group_and_metadata(tmp_path: Path, v2020: bool) -> None:
    adapter, records = scan("nih_cxr14", layouts.nih_cxr14(tmp_path, FINDINGS, v2020=v2020))
    assert {r.id: (r.label, r.group, r.split) for r in records.values()} == {
        "images_001/images/00000001_000.png": ("No Finding", "1", None),
        "images_002/images/00000001_001.png": ("Mass", "1", None),
        "images_002/images/00000002_001.png": ("Mass", "2", None),
        "images_002/images/00000003_001.png": ("No Finding", "3", None),
    }
    assert records["00000002_001.png"].meta == {
        "labels": "Mass",
        "age": "58",
        "sex": "female",
        "view": "PA",
        "follow_up": "1",
    }
    assert found(adapter) == {("info", "left_out"): ("00000002_000", "00000003_000")}
    assert "(several findings)" in adapter.findings[0].message


def test_the_first_finding_may_be_the_class(tmp_path: Path) -> None:
    adapter, records = scan("nih_cxr14", layouts.nih_cxr14(tmp_path, FINDINGS), several="first")
    assert records["00000003_000.png"].label == "Cardiomegaly"
    assert records["00000003_000.png"].meta["labels"] == "Cardiomegaly;Edema;Mass"
    assert len(records) == 6
    assert adapter.findings == []


def test_the_official_split_is_kept(tmp_path: Path) -> None:
    adapter, records = scan("nih_cxr14", layouts.nih_cxr14(tmp_path, FINDINGS, num_test=2), several="first")
    assert [r.split for _, r in sorted(records.items())] == ["train"] * 4 + ["test"] * 2
    assert adapter.findings == []


def test_an_image_in_neither_list_has_no_split(tmp_path: Path) -> None:
    root = layouts.nih_cxr14(tmp_path, FINDINGS, num_test=2)
    layouts.edit(root / "train_val_list.txt", "00000001_000.png\n", "")
    assert scan("nih_cxr14", root)[1]["00000001_000.png"].split is None


def test_a_list_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    root = layouts.nih_cxr14(tmp_path, FINDINGS, num_test=2)
    (root / "test_list.txt").write_bytes("\ufeff00000001_000.png".encode("utf-16-le"))
    with pytest.raises(AuditError, match=r"test_list.txt: not UTF-8 \(byte 0\)"):
        scan("nih_cxr14", root)
