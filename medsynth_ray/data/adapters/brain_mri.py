"""Brain tumour MRI: 7,023 slices of figshare, SARTAJ and Br35H together.

Nickparvar 2021, Kaggle, doi 10.34740/kaggle/dsv/2645886.
"""

from __future__ import annotations

from collections import defaultdict

from pydantic import Field

from medsynth_ray.data.adapters._class_folders import ClassFolders
from medsynth_ray.data.adapters._files import named
from medsynth_ray.protocols import ImageRecord
from medsynth_ray.seeds import derive


class BrainMri(ClassFolders):
    """Folders Training and Testing, in each glioma, meningioma, notumor and pituitary. Patients are not known."""

    labels = {
        "glioma": "glioma", "meningioma": "meningioma", "notumor": "notumor", "no_tumor": "notumor",
        "pituitary": "pituitary",
    }  # fmt: skip
    has_split = True
    num_published = 7023

    class Config(ClassFolders.Config):
        """Where the data are and how many of them are used."""

        thin_share: float = Field(default=0.0, ge=0.0, lt=1.0)
        """Share of each class that is left out, in train and test alike: 0.8 in Repetto and de Leon 2023."""
        thin_seed: int = Field(default=0, ge=0)
        """Another seed leaves out others; a larger `thin_share` leaves out all that a smaller one does."""
        keep_augmented: bool = False
        """Whether to use files that a later release made from others to balance the classes (Tr-aug-me_0001.jpg)."""

    def scan(self) -> list[ImageRecord]:
        """Records of the images that are kept, augmented ones taken out first; fills `findings`.

        Raises:
            AuditError: the root is missing or cannot be listed, or a class has no image.
        """
        records = super().scan()
        made = {record.id for record in records if "-aug-" in record.id.rpartition("/")[2].lower()}
        if made and not self.config.keep_augmented:
            what = "made from other images by augmentation, left out; data.keep_augmented uses them"
            self.findings += named("augmented", "info", f"{len(made)} images {what}", made)
            records = [record for record in records if record.id not in made]
        kept = self._thinned(records)
        left_out = {record.id for record in records} - {record.id for record in kept}
        what = f"{len(left_out)} images left out by data.thin_share {self.config.thin_share:g}"
        self.findings += named("thinned", "info", what, left_out)
        return kept

    def _thinned(self, records: list[ImageRecord]) -> list[ImageRecord]:
        """At least one image of each class and split; which ones depends on their ids and `thin_seed` alone."""
        parts = defaultdict(list)
        for record in records:
            parts[record.split, record.label].append(record)
        kept = []
        for part in parts.values():
            part.sort(key=lambda record: derive(self.config.thin_seed, "thin", record.id))
            kept += part[: max(1, round(len(part) * (1.0 - self.config.thin_share)))]
        return sorted(kept, key=lambda record: record.id)
