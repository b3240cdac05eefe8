"""Classifiers of frozen features on real chest X-rays: far above chance."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsynth_ray import registry
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Spec
from medsynth_ray.testing import LocalRuntime

ROOT = Path(os.environ.get("MEDSYNTH_REAL_DATA", Path(__file__).parents[4] / "shared" / "data")) / "kermany_cxr"
SPACE = Spec(use="efficientnet_lite0")


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


class KeptFeatures(LocalRuntime):
    """Features of images embedded before, looked up by content."""

    def __init__(self, images: ImageSet) -> None:
        super().__init__()
        self._row_of = {digest: row for row, digest in enumerate(images.digests.tolist())}
        self._features = super().features(images, SPACE)

    def features(self, images: ImageSet, space: Spec) -> np.ndarray:
        return self._features[[self._row_of[digest] for digest in images.digests.tolist()]]


@pytest.fixture(scope="module")
def xrays() -> ImageSet:
    return chest_xrays(per_class=100)


@pytest.fixture(scope="module")
def runtime(xrays: ImageSet) -> KeptFeatures:
    return KeptFeatures(xrays)


@pytest.mark.real
@pytest.mark.skipif(not ROOT.exists(), reason=f"no real images at {ROOT}")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("probe", {}),
        ("svc", {}),
        ("logreg", {"max_iter": 30}),
        ("ffnn", {"num_train_epochs": 30}),
        ("alexnet", {"num_train_epochs": 20}),
    ],
)
def test_frozen_features_read_chest_xrays(
    name: str, settings: dict[str, Any], xrays: ImageSet, runtime: KeptFeatures
) -> None:
    rows = np.arange(len(xrays))
    train, val = xrays.take(rows[rows % 3 > 0]), xrays.take(rows[rows % 3 == 0])
    spec = Spec(use=name, config={"space": SPACE.model_dump(), **settings})
    history = registry.configure("classifiers", spec).build().fit(train, val=val, seed=0, runtime=runtime)
    assert history[-1]["val_balanced_accuracy"] > 0.6
