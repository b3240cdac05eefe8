"""chongqing, brain_mri and lymphoma: sets whose classes are folders, in miniature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsynth_ray.data.adapters.brain_mri import BrainMri
from medsynth_ray.data.adapters.chongqing import Chongqing
from medsynth_ray.data.adapters.lymphoma import Lymphoma
from medsynth_ray.data.dataset import prepare
from medsynth_ray.errors import AuditError
from medsynth_ray.sections import DataConfig, SplitConfig

Make = Callable[[Mapping[str, int], str], Path]
BRAIN = {f"{s}/{c}": n for s, n in (("Training", 10), ("Testing", 5)) for c in ("glioma", "meningioma", "notumor", "pituitary")}  # fmt: skip  # noqa: E501


@pytest.fixture
def make(tmp_path: Path, noise: Callable[..., np.ndarray]) -> Make:
    """Writes `count` images into each folder, called by a pattern with the number in it."""

    def write(folders: Mapping[str, int], pattern: str) -> Path:
        for place, (folder, count) in enumerate(folders.items()):
            (tmp_path / "root" / folder).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.fromarray(noise(1000 * place + i)).save(tmp_path / "root" / folder / pattern.format(i))
        return tmp_path / "root"

    return write


def counts(records: list) -> dict:
    return dict(Counter((r.split, r.label) for r in records))


@pytest.mark.parametrize(
    ("negative", "positive"), [("0", "1"), ("normal", "pneumoconiosis"), ("Negative", "Positive"), ("Normal", "1")]
)
def test_chongqing_keeps_its_split_under_every_known_spelling(make: Make, negative: str, positive: str) -> None:
    root = make({f"{s}/{c}": n for s, n in (("train", 3), ("test", 2)) for c in (negative, positive)}, "5628{}.jpg")
    adapter = Chongqing.Config(root=str(root)).build()
    assert counts(adapter.scan()) == {
        ("train", "normal"): 3, ("train", "pneumoconiosis"): 3, ("test", "normal"): 2, ("test", "pneumoconiosis"): 2,
    }  # fmt: skip
    assert [(f.kind, f.severity) for f in adapter.findings] == [("other_size", "info")]
    assert adapter.findings[0].message == "10 images are here, the published set has 706"


def test_chongqing_goes_through_prepare_with_val_cut_from_train(make: Make) -> None:
    root = make({"train/0": 40, "train/1": 16, "test/0": 10, "test/1": 4}, "{}.png")
    data = prepare(DataConfig(adapter="chongqing", root=str(root), resolution=16, groups="none"), SplitConfig())
    assert data.counts() == {"train": [29, 11], "val": [11, 5], "test": [10, 4]}
    assert data.class_names == ("normal", "pneumoconiosis")


@pytest.mark.parametrize(
    ("adapter", "folders", "message"),
    [
        (Chongqing, {"train/0": 1, "test/0": 1}, "no image of class 'pneumoconiosis' in a folder 1 or pneumoconiosis"),
        (Lymphoma, {"CLL": 1, "FL": 1}, "no image of class 'MCL' in a folder mcl"),
        (BrainMri, {"Training/glioma": 1}, "no image of class 'meningioma' in a folder meningioma"),
    ],
)
def test_a_class_without_an_image_is_named(make: Make, adapter: type, folders: dict, message: str) -> None:
    root = make(folders, "{}.png")
    with pytest.raises(AuditError) as caught:
        adapter.Config(root=str(root)).build().scan()
    assert message in str(caught.value)
    assert str(root) in str(caught.value)


def test_images_elsewhere_and_without_split_are_named(make: Make) -> None:
    root = make({"train/0": 1, "train/1": 1, "figures": 1, "0": 1}, "{}.png")
    adapter = Chongqing.Config(root=str(root)).build()
    records = adapter.scan()
    assert [r.id for r in records] == ["0/0.png", "train/0/0.png", "train/1/0.png"]
    found = {f.kind: (f.severity, f.ids) for f in adapter.findings}
    assert found["no_class_folder"] == ("warn", ("figures/0.png",))
    assert found["no_split_folder"] == ("warn", ("0/0.png",))


def test_lymphoma_reads_tiff_and_brings_no_split(make: Make) -> None:
    root = make({"CLL": 2, "FL": 3, "MCL": 1}, "sj-05-6124-R1_{:03d}.tif")
    adapter = Lymphoma.Config(root=str(root)).build()
    records = adapter.scan()
    assert counts(records) == {(None, "CLL"): 2, (None, "FL"): 3, (None, "MCL"): 1}
    assert {r.group for r in records} == {None}
    assert adapter.read(records[0]) == (root / "CLL/sj-05-6124-R1_000.tif").read_bytes()


def test_brain_mri_keeps_the_official_split(make: Make) -> None:
    records = BrainMri.Config(root=str(make(BRAIN, "Tr-gl_{:04d}.jpg"))).build().scan()
    expected = {(s, c): n for s, n in (("train", 10), ("test", 5)) for c in ("glioma", "meningioma", "notumor", "pituitary")}  # fmt: skip  # noqa: E501
    assert counts(records) == expected


def test_thinning_by_80_percent_keeps_a_fifth_of_each_class_in_each_split(make: Make) -> None:
    adapter = BrainMri.Config(root=str(make(BRAIN, "{}.jpg")), thin_share=0.8).build()
    assert set(counts(adapter.scan()).items()) == {
        ((s, c), n) for s, n in (("train", 2), ("test", 1)) for c in ("glioma", "meningioma", "notumor", "pituitary")
    }
    thinned = [f for f in adapter.findings if f.kind == "thinned"]
    assert [len(f.ids) for f in thinned] == [48]
    assert "48 images left out by data.thin_share 0.8: " in thinned[0].message


def test_thinning_is_nested_seeded_and_independent_of_other_files(make: Make) -> None:
    root = str(make(BRAIN, "{}.jpg"))

    def kept(**settings: object) -> set[str]:
        return {r.id for r in BrainMri.Config(root=root, **settings).build().scan()}

    assert kept(thin_share=0.8) < kept(thin_share=0.5) < kept()
    assert kept(thin_share=0.8) == kept(thin_share=0.8)
    assert kept(thin_share=0.8) != kept(thin_share=0.8, thin_seed=1)
    before = {name for name in kept(thin_share=0.5) if name.startswith("Training/glioma")}
    make({"Training/pituitary": 14}, "more_{}.jpg")
    assert {name for name in kept(thin_share=0.5) if name.startswith("Training/glioma")} == before


@pytest.mark.parametrize(("keep", "count"), [(False, 60), (True, 63)])
def test_augmented_files_are_left_out_unless_asked_for(make: Make, keep: bool, count: int) -> None:
    root = make(BRAIN, "{}.jpg")
    make({"Training/meningioma": 3}, "Tr-aug-me_{:04d}.jpg")
    adapter = BrainMri.Config(root=str(root), keep_augmented=keep).build()
    assert len(adapter.scan()) == count
    assert [len(f.ids) for f in adapter.findings if f.kind == "augmented"] == ([] if keep else [3])
