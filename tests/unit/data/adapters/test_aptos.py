from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.adapters import layouts
from tests.unit.data.adapters.scans import found, scan


def labels(records: dict) -> list[str | None]:
    return [record.label for record in records.values()]


def test_the_competitions_layout(tmp_path: Path) -> None:
    adapter, records = scan("aptos", layouts.aptos(tmp_path, [2, 1, 1, 1, 1]))
    assert [r.id for r in records.values()][0] == "train_images/000000000000.png"
    assert labels(records) == ["No_DR", "No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR"]
    assert {r.group for r in records.values()} == {None}
    assert found(adapter) == {
        ("info", "other_files"): ("test.csv",),
        ("info", "file_without_row"): ("test_images/ffffffffffff.png",),
    }


@pytest.mark.parametrize("table", [True, False])
def test_the_gaussian_filtered_layout(tmp_path: Path, table: bool) -> None:
    adapter, records = scan("aptos", layouts.aptos(tmp_path, [2, 1, 1, 1, 1], gaussian=True, table=table))
    assert sorted(map(str, labels(records))) == ["Mild", "Moderate", "No_DR", "No_DR", "Proliferate_DR", "Severe"]
    assert adapter.findings == []


@pytest.mark.parametrize("table", [True, False])
def test_grades_that_disagree_are_set_aside(tmp_path: Path, table: bool) -> None:
    root = layouts.aptos(tmp_path, [2, 1, 1, 1, 1], gaussian=True, table=table)
    folder = root / "gaussian_filtered_images" / "gaussian_filtered_images"
    (folder / "Severe" / "000000000000.png").write_bytes((folder / "No_DR" / "000000000000.png").read_bytes())
    adapter, records = scan("aptos", root)
    assert found(adapter)["quarantine", "label_conflict"] == ("000000000000",)
    assert "000000000000 (No_DR and Severe)" in adapter.findings[0].message
    assert "000000000000.png" not in records


@pytest.mark.parametrize("grade", ["5", "", "-1", "mild"])
def test_a_grade_that_is_none_of_0_to_4_is_no_label(tmp_path: Path, grade: str) -> None:
    root = layouts.aptos(tmp_path, [2, 1, 1, 1, 1])
    layouts.edit(root / "train.csv", "000000000002,1", f"000000000002,{grade}")
    assert labels(scan("aptos", root)[1])[2] is None
