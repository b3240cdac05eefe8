"""What the published numbers of Repetto and de León 2023 give away: whole images stand behind two decimals."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from medsynth_ray import yamlfile
from medsynth_ray.sections import PublishedTable

SWEEPS = Path(__file__).parents[2] / "sweeps"
NUM_TEST = 140


def table(name: str) -> PublishedTable:
    """The table of results of a sweep file."""
    (found, *_) = yamlfile.load_dict(SWEEPS / f"{name}.yaml")["published"]["tables"]
    return PublishedTable.model_validate(found)


def counts_behind(row: tuple[float | None, ...], num_positive: int) -> list[tuple[int, int]]:
    """(true positives, false positives) that print as a row of accuracy and macro precision, recall and F1."""
    wanted = [f"{value:.2f}" for value in row]
    places = product(range(num_positive + 1), range(NUM_TEST - num_positive + 1))
    return [(tp, fp) for tp, fp in places if _printed(tp, fp, num_positive) == wanted]


def _printed(tp: int, fp: int, num_positive: int) -> list[str]:
    fn, tn = num_positive - tp, NUM_TEST - num_positive - fp
    if not (tp + fp and tn + fn):
        return []
    precision = (tp / (tp + fp) + tn / (tn + fn)) / 2
    recall = (tp / num_positive + tn / (tn + fp)) / 2
    f1 = (2 * tp / (2 * tp + fp + fn) + 2 * tn / (2 * tn + fp + fn)) / 2
    return [f"{value:.2f}" for value in ((tp + tn) / NUM_TEST, precision, recall, f1)]


@pytest.mark.parametrize("num_positive", range(25, 32))
def test_all_rows_of_chongqing_are_whole_images_only_with_28_positives(num_positive: int) -> None:
    possible = [bool(counts_behind(row, num_positive)) for row in table("repetto2023_chongqing").rows.values()]
    assert all(possible) == (num_positive == 28)


@pytest.mark.parametrize(
    ("row", "behind"), [("Original dataset", (18, 4)), ("SD v1 DreamBooth, single class", (18, 3))]
)
def test_the_best_row_of_chongqing_finds_no_more_patients(row: str, behind: tuple[int, int]) -> None:
    assert counts_behind(table("repetto2023_chongqing").rows[row], 28) == [behind]


@pytest.mark.parametrize(
    ("name", "first", "second", "apart"),
    [("repetto2023_brain_mri", 0.90, 0.89, (1, 5)), ("repetto2023_aptos", 0.96, 0.95, (1, 13))],
)
def test_accuracies_of_two_decimals_are_a_few_images_apart(
    name: str, first: float, second: float, apart: tuple[int, int]
) -> None:
    found = table(name)
    assert found.num_test is not None
    assert {row[0] for row in found.rows.values()} == {first, second}
    high, low = ([n for n in range(found.num_test + 1) if round(n / found.num_test, 2) == x] for x in (first, second))
    assert (min(high) - max(low), max(high) - min(low)) == apart


@pytest.mark.parametrize(
    ("name", "row", "cells"),
    [
        ("repetto2023_chongqing", "Conventional DA", (0.89, 0.84, 0.81, 0.83)),
        ("repetto2023_chongqing", "SD v2, noise 0.15, 24 steps", (0.84, 0.74, 0.76, 0.75)),
        ("repetto2023_chongqing", "SD v2 DreamBooth, LoRA", (0.86, 0.78, 0.82, 0.79)),
        ("repetto2023_brain_mri", "DreamBooth, CLIP clusters, glioma", (0.89, 0.88, 0.88, 0.88)),
        ("repetto2023_aptos", "DreamBooth, CLIP clusters, mild", (0.95, 0.95, 0.89, 0.91)),
        ("singh2024_hybrid50", "Hybrid", (84.06,)),
    ],
)
def test_cells_are_those_of_the_paper(name: str, row: str, cells: tuple[float, ...]) -> None:
    assert table(name).rows[row] == cells
