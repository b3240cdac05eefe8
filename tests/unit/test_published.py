"""The published numbers in sweep files: what a table may hold, and that those of the papers add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medsynth_ray import registry, yamlfile
from medsynth_ray.config import SweepConfig
from medsynth_ray.sections import PublishedConfig, PublishedTable
from medsynth_ray.stats.published import SCORES, published_tables

SWEEPS = Path(__file__).parents[2] / "sweeps"
PAPERS = [
    "hu2024_vae_odir",
    "jiao2025_dcgan_fitzpatrick17k",
    "jiao2025_dcgan_isic2019",
    "kuijpers2023_dct_lymphoma",
]
TABLE = {"title": "Table 1", "columns": ["Acc", "FID"], "rows": {"none": [71.67, None], "gan": [73.67, 21.2]}}


def published(name: str) -> PublishedConfig:
    """The published block of a sweep file."""
    return PublishedConfig.model_validate(yamlfile.load_dict(SWEEPS / f"{name}.yaml")["published"])


def table(name: str, title: str) -> PublishedTable:
    """The table of a sweep file whose title begins so."""
    (found,) = [t for t in published(name).tables if t.title.startswith(title)]
    return found


def cell(name: str, title: str, row: str, column: str) -> float | None:
    """One number of a paper."""
    found = table(name, title)
    return found.rows[row][found.columns.index(column)]


# --- what a table may hold


def test_a_table_keeps_its_cells() -> None:
    read = PublishedTable.model_validate(TABLE)
    assert read.rows == {"none": (71.67, None), "gan": (73.67, 21.2)}
    assert (read.percent, read.num_test, read.proportions) == (False, None, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {"none": [71.67]}}, "row 'none' has 1 cells for 2 columns"),
        ({"rows": {}}, "at least 1 item"),
        ({"columns": []}, "at least 1 item"),
        ({"proportions": ["Accuracy"]}, "proportions: 'Accuracy' is none of Acc, FID"),
        ({"measured": {"dcgan": "dcgan"}}, "measured: 'dcgan' is none of none, gan"),
        ({"metrics": {"acc": "accuracy"}}, "metrics: 'acc' is none of Acc, FID"),
        ({"num_test": 0}, "greater than or equal to 1"),
        ({"n_test": 75}, "Extra inputs are not permitted"),
        ({"rows": {"none": [float("nan"), 1.0]}}, "finite number"),
    ],
)
def test_a_wrong_table_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PublishedTable.model_validate({**TABLE, **change})


def test_published_numbers_do_not_make_another_sweep() -> None:
    plain = {"name": "s", "data": {"adapter": "phantom"}, "generators": {"gaussian": None}}
    block = {"source": "somebody", "tables": [TABLE]}
    with_block = SweepConfig.model_validate({**plain, "published": block})
    assert with_block.published is not None
    assert with_block.sweep_id == SweepConfig.model_validate(plain).sweep_id


# --- the papers' tables


@pytest.mark.parametrize("name", PAPERS)
def test_rows_and_columns_point_at_what_the_sweep_measures(name: str) -> None:
    arms = {"real_only", *yamlfile.load_dict(SWEEPS / f"{name}.yaml")["generators"]}
    tables = published(name).tables
    assert {arm for t in tables for arm in t.measured.values()} <= arms
    assert [bool(t.measured) for t in tables] == [bool(t.metrics) for t in tables]
    assert any(t.measured for t in tables) == (name != "hu2024_vae_odir"), "Hu 2024 reports nothing to stand beside"
    assert {m for t in tables for m in t.metrics.values()} <= {*SCORES, *registry.names("metrics")}


@pytest.mark.parametrize("name", PAPERS)
def test_a_deduced_number_of_test_images_is_said(name: str) -> None:
    for t in published(name).tables:
        assert (t.num_test is None) == (": deduced" not in t.title)
    deduced = any(t.num_test for t in published(name).tables)
    assert any("deduced" in note for note in published(name).notes) == deduced


@pytest.mark.parametrize(
    ("name", "title", "number"),
    [
        ("jiao2025_dcgan_isic2019", "Table 2", 900),
        ("jiao2025_dcgan_fitzpatrick17k", "Table 2", 900),
        ("kuijpers2023_dct_lymphoma", "Results, validation", 75),
    ],
)
def test_the_deduced_number_is_the_smallest_that_fits(name: str, title: str, number: int) -> None:
    found = table(name, title)
    assert found.num_test == number
    column = found.columns.index(*found.proportions)
    percents = [row[column] or 0.0 for key, row in found.rows.items() if key != "MosaiQ"]
    assert next(n for n in range(1, 5000) if all(_is_whole_part(p, n) for p in percents)) == number


@pytest.mark.parametrize("name", ["jiao2025_dcgan_isic2019", "jiao2025_dcgan_fitzpatrick17k"])
def test_mosaiq_fits_no_900_images(name: str) -> None:
    assert not _is_whole_part(cell(name, "Table 2", "MosaiQ", "Acc") or 0.0, 900)


def _is_whole_part(percent: float, number: int) -> bool:
    return f"{100 * round(percent * number / 100) / number:.2f}" == f"{percent:.2f}"


@pytest.mark.parametrize(
    ("name", "title", "row", "column", "value"),
    [
        ("hu2024_vae_odir", "Training runs", "VAE, last settings", "Learning rate", 2e-4),
        ("hu2024_vae_odir", "Training runs", "VAE, last settings", "Images", 6484),
        ("hu2024_vae_odir", "Training runs", "VAE, first settings", "Batch", 32),
        ("hu2024_vae_odir", "Training runs", "Diffusion (DDPM)", "Final loss", 0.015),
        ("hu2024_vae_odir", "Training runs", "StyleGAN2-ADA, all classes", "Hours", 3.5),
        ("jiao2025_dcgan_isic2019", "Table 2", "none", "Acc", 71.67),
        ("jiao2025_dcgan_isic2019", "Table 2", "HybridQ", "P", 0.72),
        ("jiao2025_dcgan_isic2019", "Table 1", "DCGAN", "NV", 16.51),
        ("jiao2025_dcgan_isic2019", "Table 1", "HybridQ on IBM Brisbane", "MEL", 23.25),
        ("jiao2025_dcgan_fitzpatrick17k", "Table 2", "DCGAN", "Acc", 60.0),
        ("jiao2025_dcgan_fitzpatrick17k", "Table 2", "HybridQ", "R", 0.62),
        ("jiao2025_dcgan_fitzpatrick17k", "Table 1", "VQ-MAGE", "M", 6.99),
        ("jiao2025_dcgan_fitzpatrick17k", "Table 1", "HybridQ on IBM Brisbane", "NE", 10.25),
        ("kuijpers2023_dct_lymphoma", "Results, validation", "Base dataset, epoch 5", "Accuracy", 56),
        ("kuijpers2023_dct_lymphoma", "Results, training", "Base dataset, epoch 1", "Loss", 1.2144),
        ("kuijpers2023_dct_lymphoma", "Results, validation", "Stable diffusion dataset, epoch 4", "Accuracy", 66.67),
        ("kuijpers2023_dct_lymphoma", "Results, training", "Stable diffusion dataset, epoch 2", "Loss", 0.99511),
    ],
)
def test_cells_are_those_of_the_paper(name: str, title: str, row: str, column: str, value: float) -> None:
    assert cell(name, title, row, column) == value


def test_hu_classes_sum_to_what_the_note_says() -> None:
    total = sum(row[0] or 0 for row in table("hu2024_vae_odir", "Images of each class").rows.values())
    assert any(f"sum to {total:,.0f} images" in note for note in published("hu2024_vae_odir").notes)


@pytest.mark.parametrize(
    ("name", "column", "rise"), [("jiao2025_dcgan_isic2019", "MEL", 56), ("jiao2025_dcgan_fitzpatrick17k", "M", 41)]
)
def test_jiao_hardware_raises_fid_by_what_the_note_says(name: str, column: str, rise: int) -> None:
    simulator, hardware = (cell(name, "Table 1", row, column) for row in ("HybridQ", "HybridQ on IBM Brisbane"))
    assert simulator is not None
    assert hardware is not None
    assert round(100 * (hardware / simulator - 1)) == rise
    assert any(f"by {rise} %" in note for note in published(name).notes)


def test_jiao_mosaiq_row_is_the_same_for_both_data_sets() -> None:
    rows = [table(f"jiao2025_dcgan_{d}", "Table 1").rows["MosaiQ"] for d in ("isic2019", "fitzpatrick17k")]
    assert rows[0] == rows[1] == (36.22, 53.39, 43.0)


def test_jiao_majority_class_beats_every_row_of_fitzpatrick17k() -> None:
    counts = [n or 0.0 for n in table("jiao2025_dcgan_fitzpatrick17k", "Training images").rows["Fitzpatrick17k"]]
    share = 100 * max(counts) / sum(counts)
    assert round(share) == 73
    assert share > max(row[0] or 0.0 for row in table("jiao2025_dcgan_fitzpatrick17k", "Table 2").rows.values())


@pytest.mark.parametrize("name", PAPERS)
def test_the_report_can_print_them(name: str) -> None:
    tables = published_tables(published(name))["tables"]
    assert [len(t["rows"]) for t in tables] == [len(t.rows) for t in published(name).tables]
    with_interval = [t["title"] for t in tables if any(c["low"] is not None for r in t["rows"] for c in r["cells"])]
    assert with_interval == [t.title for t in published(name).tables if t.num_test]


def test_kuijpers_headline_is_eight_images_that_no_unpaired_test_can_call() -> None:
    (sentence,) = [t["sentence"] for t in published_tables(published(PAPERS[3]))["tables"] if t["num_test"]]
    assert "Base dataset, epoch 5 56.0 [44.7, 66.7]" in sentence
    assert "Stable diffusion dataset, epoch 4 66.7" in sentence
    assert "8 of 75 images apart" in sentence
    assert "The best of 9 was picked on the images that score it" in sentence
