from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.adapters import layouts
from tests.unit.data.adapters.scans import scan


@pytest.mark.parametrize("table", ["HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab"])
def test_label_group_and_metadata(tmp_path: Path, table: str) -> None:
    root = layouts.ham10000(tmp_path, {"bcc": 2, "nv": 2}, table=table)
    adapter, records = scan("ham10000", root)
    assert [(r.id, r.label, r.group) for r in records.values()] == [
        ("HAM10000_images_part_1/ISIC_0024306.jpg", "bcc", "HAM_0000000"),
        ("HAM10000_images_part_1/ISIC_0024308.jpg", "nv", "HAM_0000001"),
        ("HAM10000_images_part_2/ISIC_0024307.jpg", "bcc", "HAM_0000000"),
        ("HAM10000_images_part_2/ISIC_0024309.jpg", "nv", "HAM_0000001"),
    ]
    assert [records[f"ISIC_002430{i}.jpg"].meta["sex"] for i in (6, 7)] == ["male", ""]
    assert records["ISIC_0024306.jpg"].meta == {"age": "80", "sex": "male", "site": "scalp", "dx_type": "histo"}
    assert adapter.findings == []


def test_a_row_without_a_lesion_has_no_group(tmp_path: Path) -> None:
    root = layouts.ham10000(tmp_path, {"bcc": 2, "nv": 2})
    layouts.edit(root / "HAM10000_metadata.csv", "HAM_0000000,ISIC_0024306", ",ISIC_0024306")
    assert scan("ham10000", root)[1]["ISIC_0024306.jpg"].group is None
