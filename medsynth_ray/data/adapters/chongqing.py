"""Chongqing pneumoconiosis: 706 chest X-rays, 142 of them positive (Hao et al. 2021, doi 10.3390/ijerph18179091)."""

from __future__ import annotations

from medsynth_ray.data.adapters._class_folders import ClassFolders


class Chongqing(ClassFolders):
    """Folders train and test, in each 0 (normal) and 1 (pneumoconiosis). Patients are not known."""

    labels = {
        "0": "normal", "normal": "normal", "negative": "normal",
        "1": "pneumoconiosis", "pneumoconiosis": "pneumoconiosis", "positive": "pneumoconiosis",
    }  # fmt: skip
    has_split = True
    num_published = 706

    class Config(ClassFolders.Config):
        """Where the data are."""
