"""Fitzpatrick17k: 16,577 clinical skin images with Fitzpatrick skin types, 1 to 6 (Groh 2021, arXiv 2104.09957)."""

from __future__ import annotations

from typing import Literal

from medsynth_ray.data.adapters._files import Tree
from medsynth_ray.data.adapters._listed import ListedImages, Row, common

TABLE = "fitzpatrick17k.csv"
Partition = Literal["three_partition_label", "nine_partition_label", "label"]


class Fitzpatrick17k(ListedImages):
    """Images `<md5hash>.jpg`. Patients are not known, so a sweep must say `groups: none`."""

    class Config(ListedImages.Config):
        """Where the data are and which column is the class."""

        label: Partition = "three_partition_label"
        """three_partition_label (benign, malignant, non-neoplastic), nine_partition_label, or label: 114 conditions."""
        allow_missing: bool = True
        """Whether rows may lack their image: they are fetched one by one, and many addresses are dead by now."""

    def _rows(self, tree: Tree) -> dict[str, Row]:
        label = self.config.label
        rows = self._keyed(self._read(tree, tree.need(TABLE), "md5hash", "fitzpatrick_scale", label), "md5hash")
        return {name: Row(row[label] or None, None, _meta(row)) for name, row in rows.items()}


def _meta(row: dict[str, str]) -> dict[str, str]:
    meta = common(
        row,
        skin_type="fitzpatrick_scale",
        skin_type_centaur="fitzpatrick_centaur",
        condition="label",
        nine_partition="nine_partition_label",
        three_partition="three_partition_label",
        qc="qc",
    )
    return {name: "" if value == "-1" and name.startswith("skin_type") else value for name, value in meta.items()}
