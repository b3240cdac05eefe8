from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.data.adapters import layouts
from tests.unit.data.adapters.scans import found, scan


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return layouts.isic2020(tmp_path, {"benign": 6, "malignant": 2})


def groups(root: Path) -> list[str | None]:
    return [record.group for record in scan("isic2020", root)[1].values()]


def test_label_group_and_metadata(root: Path) -> None:
    adapter, records = scan("isic2020", root)
    assert [(r.label, r.group) for r in records.values()][4:7] == [
        ("benign", "IP_0000002"),
        ("benign", "IP_0000002"),
        ("malignant", "IP_0000003"),
    ]
    assert records["ISIC_0000006.jpg"].meta == {
        "diagnosis": "melanoma",
        "benign_malignant": "malignant",
        "age": "51",
        "sex": "male",
        "site": "head/neck",
    }
    assert found(adapter) == {("info", "file_without_row"): ("jpeg/test/ISIC_9999999.jpg",)}


def test_the_finer_label(root: Path) -> None:
    records = scan("isic2020", root, label="diagnosis")[1]
    assert {r.label for r in records.values()} == {"nevus", "melanoma"}


@pytest.mark.parametrize("table", ["ISIC_2020_Training_GroundTruth.csv", "ISIC_2020_Training_GroundTruth_v2.csv"])
def test_the_archives_own_names_of_the_table(root: Path, table: str) -> None:
    (root / "train.csv").rename(root / table)
    assert len(scan("isic2020", root)[1]) == 8


@pytest.mark.parametrize(
    ("pairs", "joined"),
    [
        ([], "00112233"),
        ([(0, 1)], "00112233"),
        ([(0, 2)], "00002233"),
        ([(7, 5), (5, 3)], "00111111"),
        ([(0, 2), (4, 6), (2, 6)], "00000000"),
        ([(0, 99)], "00112233"),
    ],
)
def test_published_duplicates_join_patients(root: Path, pairs: list[tuple[int, int]], joined: str) -> None:
    rows = [(f"ISIC_{a:07d}", f"ISIC_{b:07d}") for a, b in pairs]
    layouts.write_table(root / "ISIC_2020_Training_Duplicates.csv", ("image_name_1", "image_name_2"), rows)
    assert groups(root) == [f"IP_000000{digit}" for digit in joined]
