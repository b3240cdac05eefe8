"""What stands in val and in the locked test never reaches a fit, whichever generator and sampler there are.

Each is fitted twice by the engine: with plain images in val and test, and with canaries there (images whose every pixel
differs). Not one byte of what comes out may differ, and no canary may be among the images shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsynth_ray import registry
from medsynth_ray.config import SweepConfig
from medsynth_ray.engine import fits
from medsynth_ray.engine.bench import Bench
from medsynth_ray.engine.store import Store
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Spec
from medsynth_ray.testing import toy_images
from tests.engine.inline import config

COUNTS = (14, 10)


def held_out(name: str, *, canary: bool) -> ImageSet:
    """Images of val or test; canaries are the same ones inverted."""
    plain = toy_images(COUNTS, size_px=32, channels=3, seed=len(name), prefix=name)
    pixels = 255 - plain.pixels if canary else plain.pixels
    return ImageSet(pixels, plain.labels, plain.groups, plain.ids, plain.class_names)


def bench(folder: Path, sweep: SweepConfig, *, canary: bool) -> Bench:
    """A bench on images of two classes."""
    train = toy_images(COUNTS, size_px=32, channels=3, seed=1, prefix="train")
    splits = {"train": train, "showable": train}
    splits |= {name: held_out(name, canary=canary) for name in ("val", "test")}
    return Bench(sweep, Store(str(folder)), splits)


def fitted(folder: Path, generator: Spec, sampler: Spec, *, canary: bool) -> list[dict[str, Any]]:
    """Key and files of every fit; asserts that no canary was shown."""
    own = bench(folder, config(folder), canary=canary)
    source = fits.Source(generator, sampler, {}, 0, "showable")
    forbidden = np.concatenate([own.splits[name].digests for name in ("val", "test")])
    for part in fits.shown_parts(own, sampler, "showable"):
        assert not np.isin(part.digests.view("S16"), forbidden.view("S16")).any()
    return [{"key": record["key"], "files": record["files"]} for record in fits.fit_parts(own, source, 1.0)]


def tiny(role: str, name: str) -> Spec:
    """A component with its smallest settings."""
    settings = registry.load(role, name).Config.tiny()
    return Spec(use=name, config=settings.model_dump(mode="json"))


@pytest.mark.parametrize("name", registry.names("generators"))
def test_no_generator_sees_val_or_test(name: str, tmp_path: Path) -> None:
    plain, canary = (
        fitted(tmp_path / str(c), tiny("generators", name), Spec(use="all_real"), canary=c) for c in (False, True)
    )
    assert plain == canary


@pytest.mark.parametrize("name", registry.names("samplers"))
def test_no_sampler_shows_val_or_test(name: str, tmp_path: Path) -> None:
    plain, canary = (
        fitted(tmp_path / str(c), tiny("generators", "gaussian"), tiny("samplers", name), canary=c)
        for c in (False, True)
    )
    assert plain == canary
