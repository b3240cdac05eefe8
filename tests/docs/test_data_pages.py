"""The pages about data sets: each adapter is listed, and the data section that a page prints is valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from medsynth_ray.registry import names
from medsynth_ray.sections import DataConfig

PAGES = Path(__file__).parents[2] / "docs" / "data"


@pytest.mark.parametrize("adapter", names("data"))
def test_each_adapter_is_in_the_index(adapter: str) -> None:
    assert re.search(rf"^\| (\[`{adapter}`\]\({adapter}\.md\)|`{adapter}`) \|", (PAGES / "README.md").read_text(), re.M)


SECTIONS = [
    (path.stem, block)
    for path in sorted(PAGES.glob("*.md"))
    if path.stem != "README"
    for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)
]


@pytest.mark.parametrize(("page", "block"), SECTIONS)
def test_the_printed_data_section_is_valid(page: str, block: str) -> None:
    data = DataConfig.model_validate(YAML(typ="safe").load(block)["data"])
    assert data.adapter == page
    assert data.adapter_config().component.__name__.lower() == page.replace("_", "")


def test_each_page_prints_a_data_section() -> None:
    assert {page for page, _ in SECTIONS} == {path.stem for path in PAGES.glob("*.md")} - {"README"}
