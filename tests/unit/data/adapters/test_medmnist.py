from __future__ import annotations

import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from medsynth_ray.data.adapters.medmnist import Medmnist
from medsynth_ray.data.dataset import prepare
from medsynth_ray.errors import AuditError
from medsynth_ray.sections import DataConfig, SplitConfig

Write = Callable[..., Path]
COUNTS = {"train": 30, "val": 8, "test": 12}


def arrays(seed: int = 0, *, channels: int = 1, size: int = 28) -> dict[str, np.ndarray]:
    """The six arrays of a MedMNIST file, with two classes in turn."""
    rng = np.random.default_rng(seed)
    made = {}
    for split, count in COUNTS.items():
        shape = (count, size, size) if channels == 1 else (count, size, size, channels)
        made[f"{split}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        made[f"{split}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    return made


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the file as MedMNIST does: compressed, in a folder of its own."""

    def save(name: str = "pneumoniamnist.npz", **changes: np.ndarray) -> Path:
        np.savez_compressed(tmp_path / name, **{**arrays(), **changes})
        return tmp_path

    return save


def build(root: Path, **settings: object) -> Medmnist:
    return Medmnist.Config(**{"root": str(root), "name": "pneumoniamnist", **settings}).build()


@pytest.mark.parametrize(("size", "name"), [(28, "pneumoniamnist.npz"), (64, "pneumoniamnist_64.npz")])
def test_the_official_split_is_kept_and_images_are_read(write: Write, size: int, name: str) -> None:
    root = write(name)
    adapter = build(root, size_px=size, class_names=["normal", "pneumonia"])
    records = adapter.scan()
    assert [(r.id, r.label, r.group, r.split) for r in records[12:14]] == [
        ("pneumoniamnist/train/000000", "normal", None, "train"),
        ("pneumoniamnist/train/000001", "pneumonia", None, "train"),
    ]
    assert [r.id for r in records] == sorted(r.id for r in records)
    assert {s: sum(r.split == s for r in records) for s in COUNTS} == COUNTS
    assert (adapter.read(records[13]) == arrays()["train_images"][1]).all()
    assert (adapter.read(records[0]) == arrays()["test_images"][0]).all()


def test_colour_and_numbers_as_names(write: Write) -> None:
    adapter = build(write(**arrays(channels=3)))
    records = adapter.scan()
    assert adapter.read(records[0]).shape == (28, 28, 3)
    assert {r.label for r in records} == {"0", "1"}


def test_the_array_of_a_split_is_unpacked_once_for_all_threads(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = build(write())
    records = adapter.scan()
    loaded: list[str] = []
    load = Medmnist._load
    monkeypatch.setattr(Medmnist, "_load", lambda self, split: loaded.append(split) or load(self, split))
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(adapter.read, records))
    assert sorted(loaded) == ["test", "train", "val"]
    expected = np.concatenate([arrays()[f"{s}_images"] for s in ("test", "train", "val")])
    assert (np.stack(images) == expected).all()


def test_a_bucket_goes_through_prepare(write: Write) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/mnist/pneumoniamnist.npz", (write() / "pneumoniamnist.npz").read_bytes())
    settings = {"root": "memory://mnist", "name": "pneumoniamnist", "groups": "none", "resolution": 16}
    try:
        data = prepare(DataConfig(adapter="medmnist", **settings), SplitConfig())
    finally:
        fs.rm("/mnist", recursive=True)
    assert data.counts() == {"train": [15, 15], "val": [4, 4], "test": [6, 6]}
    assert data.images.image_shape == (16, 16, 1)


@pytest.fixture
def several() -> dict[str, np.ndarray]:
    """Labels of chestmnist's kind: none, first, second, both, in turn."""
    rows = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], dtype=np.uint8)
    return {f"{split}_labels": rows[np.arange(count) % 4] for split, count in COUNTS.items()}


def test_several_labels_are_refused_or_reduced(write: Write, several: dict[str, np.ndarray]) -> None:
    root = write(**several)
    with pytest.raises(AuditError, match=r"train_labels has 2 labels an image; set data.label_rule: single"):
        build(root).scan()
    adapter = build(root, label_rule="single", class_names=["mass", "hernia"])
    records = adapter.scan()
    assert [r.label for r in records if r.split == "val"] == ["none", "mass", "hernia"] * 2
    assert [(f.kind, f.severity, len(f.ids)) for f in adapter.findings] == [("several_labels", "info", 12)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_images": np.zeros((8, 28, 28), np.int16)}, "val_images is int16 (8, 28, 28); allowed: uint8"),
        ({"val_images": np.zeros((8, 28, 28, 28), np.uint8)}, "no 3-D set"),
        ({"val_images": np.zeros((7, 28, 28), np.uint8)}, "needed: integers for 7 images"),
        ({"val_labels": np.zeros((8, 1), np.float32)}, "val_labels is float32 (8, 1); needed: integers"),
        ({"val_labels": np.full((8, 1), 2, np.uint8)}, "label 2; data.class_names names 0 to 1"),
        ({"val_labels": np.array([["x"], [None]] * 4, dtype=object)}, "without pickle"),
    ],
)
def test_what_medmnist_does_not_have_is_named(write: Write, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(AuditError) as caught:
        build(write(**changes), class_names=["a", "b"]).scan()
    assert message in str(caught.value)
    assert "pneumoniamnist.npz" in str(caught.value)


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    made = arrays()
    del made["val_labels"]
    np.savez_compressed(tmp_path / "pneumoniamnist.npz", **made)
    with pytest.raises(AuditError, match="no array val_labels; there are: test_images, test_labels, train_images"):
        build(tmp_path).scan()


def test_a_missing_file_is_named(write: Write) -> None:
    with pytest.raises(AuditError, match=r"no file called pneumoniamnist_224.npz"):
        build(write(), size_px=224).scan()


def test_a_file_too_large_is_refused_before_it_is_unpacked(write: Write) -> None:
    with pytest.raises(AuditError, match=r"GiB when unpacked, data.memory_gib allows 1e-06"):
        build(write(), memory_gib=1e-6).scan()


def test_an_array_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    np.savez(whole, **arrays())
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "pneumoniamnist.npz", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(
                name, data.replace(b"(8, 28, 28)", b"(9999999999999, 28, 28)") if "val_im" in name else data
            )
    with pytest.raises(AuditError, match=r"val_images.npy is cut off: uint8 \(9999999999999, 28, 28\)"):
        build(tmp_path).scan()


def test_no_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "pneumoniamnist.npz").write_bytes(b"<html>")
    with pytest.raises(AuditError, match=r"pneumoniamnist.npz: not an npz file"):
        build(tmp_path).scan()


def test_damaged_pixels_are_an_os_error(write: Write) -> None:
    root = write()
    path = root / "pneumoniamnist.npz"
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("val_images.npy").header_offset
    data = bytearray(path.read_bytes())
    data[start + 300 : start + 2000] = bytes(1700)
    path.write_bytes(bytes(data))
    adapter = build(root)
    records = [r for r in adapter.scan() if r.split == "val"]
    with pytest.raises(OSError, match="val_images cannot be unpacked"):
        adapter.read(records[0])
