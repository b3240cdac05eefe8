"""ODIR-5K: fundus photographs of both eyes of each patient, eight classes (Ocular Disease Intelligent Recognition).

A row of the table is about a patient, and its letters N, D, G, C, A, H, M, O join both eyes. An eye's own letters come
from its diagnostic keywords; that rule gives the patient's letters back in all 6,392 rows of Kaggle's full_df.csv.
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import model_validator

from medsynth_ray.data.adapters._files import Tree
from medsynth_ray.data.adapters._listed import ListedImages, Row, TableRow, common, stem
from medsynth_ray.errors import AuditError

CLASSES = {
    "N": "normal", "D": "diabetes", "G": "glaucoma", "C": "cataract", "A": "amd", "H": "hypertension", "M": "myopia",
    "O": "other",
}  # fmt: skip
TABLES = (
    "full_df.csv", "data.csv", "ODIR-5K_Training_Annotations(Updated)_V2.csv",
    "data.xlsx", "ODIR-5K_Training_Annotations(Updated)_V2.xlsx",
)  # fmt: skip
_RULE = (
    ("N", "normal fundus"), ("H", "hypertensive"), ("M", "myopi"), ("D", "diabetic|proliferative"), ("G", "glaucoma"),
    ("C", "cataract"), ("A", "age-related macular degeneration"),
)  # fmt: skip
"""The first pattern that a keyword holds gives its letter; any other keyword is O."""
_NO_DIAGNOSIS = {
    "lens dust", "optic disk photographically invisible", "low image quality", "image offset", "anterior segment image",
    "no fundus image",
}  # fmt: skip
"""Keywords about the photograph, not about the eye."""


class Odir(ListedImages):
    """One record for each eye; both eyes of a patient are one group. meta["labels"] holds all letters of the eye."""

    class Config(ListedImages.Config):
        """Where the data are and how several diagnoses of one eye become one class."""

        images_in: str | None = "Training Images"
        """Name of the folder with the images; Kaggle's 512 px copies are in preprocessed_images."""
        several: Literal["first", "drop"] = "first"
        """Eyes with several diagnoses: the first in `order` is the class, or they are left out."""
        order: str = "DGCAHMO"
        """The letters of the diseases, most important first."""

        @model_validator(mode="after")
        def _order_is_complete(self) -> Self:
            if sorted(self.order) != sorted("DGCAHMO"):
                raise ValueError(f"order must hold each of the letters DGCAHMO once, got {self.order!r}")
            return self

    def _rows(self, tree: Tree) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        for patient in self._patients(tree):
            for side in ("Left", "Right"):
                name, row = stem(patient[f"{side}-Fundus"]), self._eye(patient, side)
                if rows.setdefault(name, row) != row:
                    raise AuditError(f"{self._tables[0]}: the rows of {patient[f'{side}-Fundus']} differ")
        return rows

    def _patients(self, tree: Tree) -> list[TableRow]:
        columns = [f"{side}-{what}" for side in ("Left", "Right") for what in ("Fundus", "Diagnostic Keywords")]
        return self._read(tree, tree.need(*TABLES), "ID", *columns)

    def _eye(self, patient: TableRow, side: str) -> Row:
        keywords = patient[f"{side}-Diagnostic Keywords"]
        letters = sorted(eye_letters(keywords), key=f"{self.config.order}N".index)
        reason = "" if letters else f"no diagnosis of the eye: {keywords}"
        if len(letters) > 1 and self.config.several == "drop":
            reason = f"several diagnoses: {', '.join(letters)}"
        meta = {"eye": side.lower(), "keywords": keywords, "labels": ";".join(letters)}
        meta |= common(patient, age="Patient Age", sex="Patient Sex")
        return Row(CLASSES[letters[0]] if letters else None, patient["ID"] or None, meta, left_out=reason)


def eye_letters(keywords: str) -> set[str]:
    """Letters of one eye's diagnostic keywords, which are separated by commas of either width; N only alone."""
    words = {word.strip().lower() for word in re.split("[,\uff0c]", keywords)} - _NO_DIAGNOSIS - {""}
    letters = {next((letter for letter, pattern in _RULE if re.search(pattern, word)), "O") for word in words}
    return letters - {"N"} or letters
