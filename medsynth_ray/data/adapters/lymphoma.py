"""Malignant lymphoma: 374 H&E micrographs of CLL, FL and MCL (Orlov et al. 2010, doi 10.1109/TITB.2010.2050695)."""

from __future__ import annotations

from medsynth_ray.data.adapters._class_folders import ClassFolders


class Lymphoma(ClassFolders):
    """Folders CLL, FL and MCL of TIFF files. Slides and patients are not known."""

    labels = {"cll": "CLL", "fl": "FL", "mcl": "MCL"}
    num_published = 374

    class Config(ClassFolders.Config):
        """Where the data are."""
