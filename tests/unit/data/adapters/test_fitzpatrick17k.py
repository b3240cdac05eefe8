from __future__ import annotations

from pathlib import Path

import pytest

from medsynth_ray.data.dataset import audit
from medsynth_ray.errors import ConfigError
from medsynth_ray.sections import DataConfig, SplitConfig
from tests.unit.data.adapters import layouts
from tests.unit.data.adapters.scans import found, scan


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return layouts.fitzpatrick17k(tmp_path, {"non-neoplastic": 3, "benign": 2, "malignant": 2})


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        ("three_partition_label", ["benign", "malignant", "non-neoplastic"]),
        ("nine_partition_label", ["benign dermal", "inflammatory", "malignant melanoma"]),
        ("label", ["dermatofibroma", "melanoma", "psoriasis"]),
    ],
)
def test_a_chosen_partition_is_the_class(root: Path, label: str, classes: list[str]) -> None:
    adapter, records = scan("fitzpatrick17k", root, label=label)
    assert sorted({str(r.label) for r in records.values()}) == classes
    assert {r.group for r in records.values()} == {None}
    assert adapter.findings == []


def test_skin_type_is_metadata_and_unknown_is_empty(root: Path) -> None:
    records = scan("fitzpatrick17k", root)[1]
    assert [r.meta["skin_type"] for r in records.values()] == ["", "2", "3", "4", "5", "6", "1"]
    assert records[f"{3:032x}.jpg"].meta == {
        "skin_type": "4",
        "skin_type_centaur": "2",
        "condition": "dermatofibroma",
        "nine_partition": "benign dermal",
        "three_partition": "benign",
        "qc": "",
    }


def test_another_partition_is_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="data.fitzpatrick17k.label: .*'nine_partition_label' or 'label', got 'five'"):
        scan("fitzpatrick17k", root, label="five")


def test_dead_addresses_are_counted(root: Path) -> None:
    for number in (1, 4):
        (root / "images" / f"{number:032x}.jpg").unlink()
    adapter, records = scan("fitzpatrick17k", root)
    assert len(records) == 5
    assert found(adapter) == {("warn", "row_without_file"): (f"{1:032x}", f"{4:032x}")}
    assert adapter.findings[0].message.startswith("2 images: listed, but not there: 0")


def test_without_groups_none_the_audit_stops(root: Path) -> None:
    config = DataConfig(adapter="fitzpatrick17k", root=str(root), resolution=16, min_class_images=3)
    findings, _ = audit(config, SplitConfig())
    assert [f.kind for f in findings if f.severity == "stop"][0] == "no_groups"
