"""A probe on real chest X-rays: far above chance."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsynth_ray.classifiers.probe import Probe
from medsynth_ray.images import ImageSet
from medsynth_ray.testing import LocalRuntime

ROOT = Path(os.environ.get("MEDSYNTH_REAL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "kermany_cxr"


def chest_xrays(per_class: int) -> ImageSet:
    """The first images of each class, each of another patient: 64 px, gray."""
    rows: dict[str, dict[str, str]] = {}
    with (ROOT / "metadata.csv").open() as file:
        for row in csv.DictReader(file):
            rows.setdefault(row["group"], row)
    names = tuple(sorted({row["label"] for row in rows.values()}))
    picked = [row for name in names for row in [r for r in rows.values() if r["label"] == name][:per_class]]
    pixels = [
        np.asarray(Image.open(ROOT / r["path"]).convert("L").resize((64, 64), Image.Resampling.BICUBIC)) for r in picked
    ]
    labels = np.array([names.index(row["label"]) for row in picked])
    ids, groups = (np.array([row[key] for row in picked]) for key in ("path", "group"))
    return ImageSet(np.stack(pixels)[..., None], labels, groups, ids, names)


@pytest.mark.real
@pytest.mark.skipif(not ROOT.exists(), reason=f"no real images at {ROOT}")
def test_a_probe_reads_chest_xrays() -> None:
    images = chest_xrays(per_class=100)
    rows = np.arange(len(images))
    train, val = images.take(rows[rows % 3 > 0]), images.take(rows[rows % 3 == 0])
    history = Probe(Probe.Config()).fit(train, val=val, seed=0, runtime=LocalRuntime())
    assert history[-1]["val_balanced_accuracy"] > 0.6
