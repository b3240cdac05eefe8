from __future__ import annotations

from pathlib import Path

import pytest

from medsynth_ray.errors import AuditError
from tests.unit.data.adapters import layouts
from tests.unit.data.adapters.scans import found, scan


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return layouts.isic2019(tmp_path, {"MEL": 2, "NV": 2, "SCC": 1})


def test_label_group_and_metadata(root: Path) -> None:
    adapter, records = scan("isic2019", root)
    assert {name: (r.label, r.group) for name, r in records.items()} == {
        "ISIC_0000000.jpg": ("MEL", "MEL_0000000"),
        "ISIC_0000001.jpg": ("MEL", "MEL_0000000"),
        "ISIC_0000002_downsampled.jpg": ("NV", "NV_0000001"),
        "ISIC_0000003.jpg": ("NV", "NV_0000001"),
        "ISIC_0000004.jpg": ("SCC", "SCC_0000002"),
    }
    assert records["ISIC_0000003.jpg"].meta == {"age": "15", "sex": "male", "site": "anterior torso"}
    assert found(adapter) == {("info", "other_files"): ("ISIC_2019_Training_Input/ATTRIBUTION.txt",)}


@pytest.mark.parametrize("old", ["MEL_0000000,female", "ISIC_0000000,0,anterior torso,MEL_0000000,female\n"])
def test_an_image_without_a_lesion_stands_alone(root: Path, old: str) -> None:
    layouts.edit(root / "ISIC_2019_Training_Metadata.csv", old, ",female" if old.startswith("MEL") else "")
    adapter, records = scan("isic2019", root)
    assert records["ISIC_0000000.jpg"].group == "ISIC_0000000"
    assert found(adapter)["warn", "no_lesion"] == ("ISIC_0000000",)


@pytest.mark.parametrize("truth", ["1.0,1.0,", "0.0,0.0,", "0.5,0.0,"])
def test_a_row_without_exactly_one_class_has_no_label(root: Path, truth: str) -> None:
    layouts.edit(root / "ISIC_2019_Training_GroundTruth.csv", "ISIC_0000000,1.0,0.0,", f"ISIC_0000000,{truth}")
    assert scan("isic2019", root)[1]["ISIC_0000000.jpg"].label is None


def test_the_nested_folders_of_kaggle_are_found(root: Path) -> None:
    folder = root / "ISIC_2019_Training_Input"
    (root / "outer").mkdir()
    folder.rename(root / "outer" / folder.name)
    assert scan("isic2019", root)[1]["ISIC_0000004.jpg"].id == f"outer/{folder.name}/ISIC_0000004.jpg"


def test_metadata_are_needed(root: Path) -> None:
    (root / "ISIC_2019_Training_Metadata.csv").unlink()
    with pytest.raises(AuditError, match="no file called ISIC_2019_Training_Metadata.csv in it or below it"):
        scan("isic2019", root)
