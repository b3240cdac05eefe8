"""ISIC 2020 (SIIM-ISIC): 33,126 dermoscopic images of 2,056 patients, 584 of them melanoma (Rotemberg 2021)."""

from __future__ import annotations

from typing import Literal

from medsynth_ray.data.adapters._files import Tree
from medsynth_ray.data.adapters._listed import ListedImages, Row, common

TRUTH = ("train.csv", "ISIC_2020_Training_GroundTruth_v2.csv", "ISIC_2020_Training_GroundTruth.csv")
DUPLICATES = "ISIC_2020_Training_Duplicates.csv"


class Isic2020(ListedImages):
    """The group is the patient; patients that share a published duplicate are one group."""

    class Config(ListedImages.Config):
        """Where the data are and which column is the class."""

        label: Literal["benign_malignant", "diagnosis"] = "benign_malignant"
        """benign_malignant: two classes. diagnosis: the finer one, which is `unknown` for 82 % of the images."""

    def _rows(self, tree: Tree) -> dict[str, Row]:
        label = self.config.label
        columns = ("image_name", "patient_id", "benign_malignant", "diagnosis")
        rows = self._keyed(self._read(tree, tree.need(*TRUTH), *columns), "image_name")
        groups = {name: row["patient_id"] for name, row in rows.items()}
        same = self._same_patient(tree, groups)
        return {
            name: Row(row[label] or None, same.get(g := groups[name], g) or None, _meta(row))
            for name, row in rows.items()
        }

    def _same_patient(self, tree: Tree, groups: dict[str, str]) -> dict[str, str]:
        """Patient -> name of the group, for patients that share a published duplicate."""
        path = tree.find(DUPLICATES)
        pairs = self._read(tree, path, "image_name_1", "image_name_2") if path else []
        same: dict[str, str] = {}
        for pair in pairs:
            both = [groups.get(pair[column], "") for column in ("image_name_1", "image_name_2")]
            if all(both):
                names = {same.get(patient, patient) for patient in both}
                joined = names | {patient for patient, name in same.items() if name in names} | set(both)
                same.update(dict.fromkeys(joined, min(joined)))
        return same


def _meta(row: dict[str, str]) -> dict[str, str]:
    kept = {"diagnosis": row["diagnosis"], "benign_malignant": row["benign_malignant"]}
    return {
        **kept,
        **common(row, age="age_approx", sex="sex", site="anatom_site_general_challenge", lesion="lesion_id"),
    }
