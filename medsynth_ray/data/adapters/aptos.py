"""APTOS 2019: 3,662 labelled fundus photographs, diabetic retinopathy graded 0 to 4 (Kaggle, Aravind Eye Hospital)."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath

from medsynth_ray.data.adapters._files import Tree
from medsynth_ray.data.adapters._listed import ListedImages, Row, stem
from medsynth_ray.data.audit import gathered
from medsynth_ray.errors import AuditError

GRADES = ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR")
"""Names of the grades, which are the class folders of the gaussian-filtered copy."""


class Aptos(ListedImages):
    """The competition's train.csv, or class folders. Patients are not known, so a sweep must say `groups: none`."""

    class Config(ListedImages.Config):
        """Where the data are, and which classes are used (No_DR, Mild, Moderate, Severe, Proliferate_DR)."""

    def _rows(self, tree: Tree) -> dict[str, Row]:
        folders = _by_folder(tree)
        said: dict[str, set[str]] = folders
        path = tree.find("train.csv")
        if path is None and not said:
            names = ", ".join(GRADES)
            raise AuditError(f"data.root {tree.root!r}: neither train.csv nor folders called {names} in it or below it")
        if path is not None:
            rows = self._keyed(self._read(tree, path, "id_code", "diagnosis"), "id_code")
            said = {name: folders[name] | _grade(row["diagnosis"]) for name, row in rows.items()}
        several = {name: " and ".join(sorted(grades)) for name, grades in said.items() if len(grades) > 1}
        self.findings += gathered("label_conflict", "quarantine", "several grades for one image", several)
        return {name: Row(min(grades, default=None), None) for name, grades in said.items() if name not in several}


def _by_folder(tree: Tree) -> defaultdict[str, set[str]]:
    """Name -> grades of the class folders that the image is in."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in tree.files:
        folder = PurePosixPath(path).parent.name
        if folder in GRADES:
            found[stem(path)].add(folder)
    return found


def _grade(diagnosis: str) -> set[str]:
    return {GRADES[int(diagnosis)]} if diagnosis in ("0", "1", "2", "3", "4") else set()
