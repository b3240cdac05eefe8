"""NIH ChestX-ray14: 112,120 frontal chest X-rays of 30,805 patients (Wang 2017, arXiv 1705.02315).

Fourteen findings were mined from the radiologists' reports, so labels are noisy.
"""

from __future__ import annotations

from typing import Literal

from medsynth_ray.data._metadata import utf8_text
from medsynth_ray.data.adapters._files import Tree
from medsynth_ray.data.adapters._listed import ListedImages, Row, common, stem

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


class NihCxr14(ListedImages):
    """The group is the patient; the official split is kept where its two lists are there."""

    class Config(ListedImages.Config):
        """Where the data are and how one finding becomes the class."""

        several: Literal["drop", "first"] = "drop"
        """Images with several findings: left out, or the first one named is the class."""

    def _rows(self, tree: Tree) -> dict[str, Row]:
        columns = ("Image Index", "Finding Labels", "Patient ID")
        rows = self._keyed(self._read(tree, tree.need(*TABLES), *columns), "Image Index")
        splits = self._splits(tree)
        return {name: self._row(row, splits.get(name)) for name, row in rows.items()}

    def _row(self, row: dict[str, str], split: str | None) -> Row:
        findings = row["Finding Labels"].split("|")
        reason = "several findings" if len(findings) > 1 and self.config.several == "drop" else ""
        sex = "Patient Sex" if "Patient Sex" in row else "Patient Gender"
        meta = common(row, age="Patient Age", sex=sex, view="View Position", follow_up="Follow-up #")
        return Row(
            findings[0] or None, row["Patient ID"] or None, {"labels": ";".join(findings), **meta}, split, reason
        )

    def _splits(self, tree: Tree) -> dict[str, str]:
        """Name -> train or test, of the images in the official lists."""
        found = {}
        for name, split in LISTS.items():
            path = tree.find(name)
            if path is not None:
                self._tables.append(path)
                found.update({stem(line): split for line in utf8_text(tree.read(path), path).split()})
        return found
