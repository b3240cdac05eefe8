from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import nibabel
import numpy as np
import pytest

from medsynth_ray.data._refused import Refused
from medsynth_ray.data.adapters.nifti import Nifti
from medsynth_ray.data.dataset import prepare
from medsynth_ray.errors import AuditError, ConfigError
from medsynth_ray.protocols import Spec
from medsynth_ray.registry import configure
from medsynth_ray.sections import DataConfig, SplitConfig

Write = Callable[..., Path]
WINDOW = {"value_window": (0.0, 255.0)}


def volume(shape: tuple[int, ...] = (4, 5, 6), *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, shape).astype(np.int16)


def save(path: Path, values: np.ndarray, *, codes: str = "RAS", kind: type = nibabel.Nifti1Image) -> None:
    """Write values that are given in RAS+ as a scanner with other axes would store them."""
    image = kind(values, np.eye(4))
    image.set_sform(np.eye(4), code=1)
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(codes)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image.as_reoriented(turn), path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Saves one volume below root."""

    def make(name: str = "a/v.nii.gz", values: np.ndarray | None = None, **settings: object) -> Path:
        save(tmp_path / "root" / name, volume() if values is None else values, **settings)
        return tmp_path / "root"

    return make


def build(root: Path, **settings: object) -> tuple[Nifti, list]:
    adapter = Nifti.Config(root=str(root), **{"group_per": "volume", **settings}).build()
    return adapter, adapter.scan()


def found(adapter: Nifti) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {f.kind: (f.severity, f.ids) for f in adapter.findings}


def read_all(adapter: Nifti, records: list) -> np.ndarray:
    return np.stack([adapter.read(record) for record in records])


@pytest.mark.parametrize("name", ["a/v.nii", "a/v.nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL"])
def test_slices_lie_alike_however_they_are_stored(write: Write, name: str, kind: type, codes: str) -> None:
    adapter, records = build(write(name, codes=codes, kind=kind), **WINDOW)
    images = read_all(adapter, records)
    assert images.shape == (6, 5, 4)
    assert images.dtype == np.uint8
    # Rows from anterior to posterior, columns from left to right.
    assert (images == volume()[:, ::-1, :].transpose(2, 1, 0)).all()


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("axial", volume()[:, ::-1, :].transpose(2, 1, 0)),
        ("coronal", volume()[:, :, ::-1].transpose(1, 2, 0)),
        ("sagittal", volume()[:, :, ::-1].transpose(0, 2, 1)),
    ],
)
def test_axes(write: Write, axis: str, expected: np.ndarray) -> None:
    adapter, records = build(write(codes="PIR"), axis=axis, **WINDOW)
    assert (read_all(adapter, records) == expected).all()
    assert [r.id for r in records] == [f"a/v.nii.gz#{k:04d}" for k in range(len(expected))]
    assert [r.meta for r in records] == [{"slice": str(k)} for k in range(len(expected))]


def test_all_slices_of_a_volume_are_one_group(write: Write) -> None:
    write("a/p1_t1.nii")
    root = write("b/p1_t2.nii", volume(seed=1))
    assert [(r.label, r.group) for r in build(root)[1][::6]] == [("a", "a/p1_t1.nii"), ("b", "b/p1_t2.nii")]
    assert {r.group for r in build(root, group_regex=r"/(p\d+)_")[1]} == {"p1"}
    (root / "metadata.csv").write_text("path,label,group,split,age\na/p1_t1.nii,x,g,train,7\nb/p1_t2.nii,y,g,test,8\n")
    last = build(root)[1][-1]
    assert (last.label, last.group, last.split, last.meta) == ("y", "g", "test", {"age": "8", "slice": "5"})


def test_every_nth_slice(write: Write) -> None:
    assert [r.meta["slice"] for r in build(write(), every_nth=4)[1]] == ["0", "4"]


def test_a_window_is_linear_and_clips_and_scaling_in_the_header_counts(write: Write) -> None:
    root = write(values=np.arange(120, dtype=np.int16).reshape(4, 5, 6))
    image = nibabel.load(root / "a/v.nii.gz")
    image.header.set_slope_inter(2.0, -50.0)
    raw = np.arange(120).reshape(4, 5, 6)
    scaled = nibabel.Nifti1Image(raw * 2.0 - 50.0, image.affine, image.header)
    nibabel.save(scaled, root / "a/v.nii.gz")
    adapter, records = build(root, value_window=(-10.0, 92.0), min_content_share=0)
    expected = np.rint(np.clip((raw * 2.0 - 50.0 + 10.0) * 2.5, 0, 255))
    difference = np.abs(read_all(adapter, records) - expected[:, ::-1, :].transpose(2, 1, 0)).max()
    assert difference <= 1, difference


def test_percentiles_are_those_of_the_volume(write: Write) -> None:
    values = np.arange(1000, dtype=np.float32).reshape(10, 10, 10)
    values[0, 0, 0] = np.nan
    adapter, records = build(write(values=values), value_percentiles=(10, 90), min_content_share=0)
    low, high = np.percentile(np.arange(1, 1000), [10, 90])
    expected = np.rint(np.clip((np.nan_to_num(values) - low) / (high - low) * 255, 0, 255))
    assert np.abs(read_all(adapter, records) - expected[:, ::-1, :].transpose(2, 1, 0)).max() <= 1


def test_nearly_empty_slices_are_left_out_by_the_stated_rule(write: Write) -> None:
    values = np.zeros((10, 10, 4), dtype=np.int16)
    values[:, :, 1] = 26
    values[:2, :2, 2] = 200
    values[:, :, 3] = 25
    root = write(values=values)
    adapter, records = build(root, min_content_share=0.05, **WINDOW)
    assert [r.meta["slice"] for r in records] == ["1"]
    assert found(adapter)["empty_slice"] == ("info", tuple(f"a/v.nii.gz#{k:04d}" for k in (0, 2, 3)))
    assert [r.meta["slice"] for r in build(root, min_content_share=0.04, **WINDOW)[1]] == ["1", "2"]
    assert len(build(root, min_content_share=0, **WINDOW)[1]) == 4


@pytest.mark.parametrize("values", [np.full((3, 3, 3), 7.0), np.full((3, 3, 3), np.inf)])
def test_a_volume_of_one_value_is_black(write: Write, values: np.ndarray) -> None:
    adapter, records = build(write(values=values.astype(np.float32)), min_content_share=0)
    assert read_all(adapter, records).max() == 0


def test_a_volume_is_unpacked_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a/v.nii.gz")
    adapter, records = build(write("b/w.nii.gz", volume(seed=1)), min_content_share=0)
    loaded: list[str] = []
    load = Nifti._load
    monkeypatch.setattr(Nifti, "_load", lambda self, path: loaded.append(path) or load(self, path))
    read_all(adapter, records)
    assert loaded == ["a/v.nii.gz", "b/w.nii.gz"]


def test_the_header_is_enough_to_list_where_empty_slices_are_kept(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Nifti, "_load", lambda self, path: pytest.fail("voxels were read"))
    assert len(build(write(), min_content_share=0)[1]) == 6


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((4, 5, 6, 3), {}, "is 4 x 5 x 6 x 3; data.volume_index chooses one of its volumes"),
        ((4, 5, 6, 3), {"volume_index": 3}, "data.volume_index 3 is not there"),
        ((4, 5), {}, "is 4 x 5"),
        ((4, 5, 6, 2, 2), {"volume_index": 0}, "is 4 x 5 x 6 x 2 x 2"),
        ((4, 5, 6), {"max_voxels": 119}, "4 x 5 x 6; data.max_voxels allows 119"),
    ],
)
def test_other_shapes_are_set_aside(write: Write, shape: tuple[int, ...], settings: dict, message: str) -> None:
    write("a/x.nii", volume((1, 2, 3)))
    root = write()
    nibabel.save(nibabel.Nifti1Image(volume(shape), np.eye(4)), root / "a/v.nii.gz")
    adapter, records = build(root, min_content_share=0, **settings)
    assert {r.group for r in records} == {"a/x.nii"}
    assert any(message in f.message and f.severity == "quarantine" for f in adapter.findings), adapter.findings


@pytest.mark.parametrize(
    ("shape", "settings", "chosen"), [((4, 5, 6, 3), {"volume_index": 2}, 2), ((4, 5, 6, 1), {}, 0)]
)
def test_a_volume_of_four_dimensions_is_chosen(write: Write, shape: tuple, settings: dict, chosen: int) -> None:
    root = write()
    nibabel.save(nibabel.Nifti1Image(volume(shape), np.eye(4)), root / "a/v.nii.gz")
    adapter, records = build(root, **settings, **WINDOW)
    assert (read_all(adapter, records) == volume(shape)[..., chosen][:, ::-1, :].transpose(2, 1, 0)).all()


def test_a_bomb_is_refused_by_its_header(write: Write) -> None:
    root = write("a/small.nii")
    header = bytearray((root / "a/small.nii").read_bytes()[:352])
    header[42:48] = np.array([32767, 32767, 32767], dtype="<i2").tobytes()
    (root / "a" / "bomb.nii.gz").write_bytes(gzip.compress(bytes(header) + bytes(10**6)))
    adapter, records = build(root)
    assert {r.group for r in records} == {"a/small.nii"}
    assert found(adapter)["too_many_voxels"] == ("quarantine", ("a/bomb.nii.gz",))


def test_more_behind_the_voxels_is_never_unpacked(write: Write) -> None:
    root = write("a/v.nii")
    data = (root / "a/v.nii").read_bytes()
    (root / "a/v.nii").unlink()
    (root / "a" / "v.nii.gz").write_bytes(gzip.compress(data + bytes(5 * 10**7)))
    unpacked: list[int] = []

    class Counting(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            unpacked.append(len(data))
            return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gzip, "GzipFile", Counting)
        adapter, records = build(root)
        assert len(read_all(adapter, records)) == 6
    assert sum(unpacked) < 10_000


def test_a_file_without_orientation_is_warned_of(write: Write) -> None:
    root = write()
    image = nibabel.Nifti1Image(volume(), None)
    nibabel.save(image, root / "a/v.nii.gz")
    assert found(build(root)[0])["no_orientation"] == ("warn", ("a/v.nii.gz",))


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_a_damaged_volume_is_set_aside_while_listing_or_refused_while_reading(write: Write, share: float) -> None:
    write("b/good.nii")
    root = write("a/cut.nii.gz", volume((20, 20, 20)))
    path = root / "a/cut.nii.gz"
    path.write_bytes(path.read_bytes()[:-3000])
    adapter, records = build(root, min_content_share=share)
    if share:
        assert found(adapter)["unreadable"] == ("quarantine", ("a/cut.nii.gz",))
        assert {r.label for r in records} == {"b"}
    else:
        with pytest.raises(Refused, match="damaged or cut off"):
            adapter.read(records[0])


def test_other_files_are_named(write: Write) -> None:
    root = write()
    (root / "a" / "t.tar.gz").write_bytes(b"x")
    (root / "a" / "text.nii").write_bytes(b"hello, this is no volume")
    colour = np.zeros((2, 2, 2), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), root / "a" / "rgb.nii")
    adapter, records = build(root)
    assert {r.group for r in records} == {"a/v.nii.gz"}
    assert found(adapter)["other_files"] == ("info", ("a/t.tar.gz",))
    assert found(adapter)["unreadable"] == ("quarantine", ("a/rgb.nii", "a/text.nii"))


def test_bytes_changed_at_random_give_findings_or_images_and_no_other_error(write: Write) -> None:
    root = write("a/v.nii")
    good = (root / "a/v.nii").read_bytes()
    rng = np.random.default_rng(0)
    for number in range(200):
        data = np.frombuffer(good, dtype=np.uint8).copy()
        data[rng.integers(0, 352, 5)] = rng.integers(0, 256, 5)
        (root / "a" / f"{number:03d}.nii").write_bytes(data[: rng.integers(300, len(data) + 1)].tobytes())
    adapter, records = build(root, max_voxels=10_000)
    assert {f.kind for f in adapter.findings} <= set(Nifti.aside) | {"empty_slice", "no_orientation"}
    assert all(adapter.read(record).dtype == np.uint8 for record in records)


def test_volumes_without_a_patient_stop_unless_each_patient_has_one(write: Write) -> None:
    write("a/p1_left.nii.gz")
    root = write("a/p1_right.nii.gz", volume(seed=1))
    both = ("a/p1_left.nii.gz", "a/p1_right.nii.gz")
    adapter = build(root, group_per="patient")[0]
    assert found(adapter)["volume_as_group"] == ("stop", both)
    text = next(f.message for f in adapter.findings if f.kind == "volume_as_group")
    assert text.startswith("2 volumes have no group (patient), and a patient may have several; give a column group")
    assert Nifti.Config(root="x").group_per == "patient"
    adapter, records = build(root, group_per="volume")
    assert ({r.group for r in records}, "volume_as_group" in found(adapter)) == (set(both), False)
    adapter, records = build(root, group_per="patient", group_regex="(p[0-9]+)_")
    assert ({r.group for r in records}, "volume_as_group" in found(adapter)) == ({"p1"}, False)
    (root / "metadata.csv").write_text("path,label,group\na/p1_left.nii.gz,x,p1\na/p1_right.nii.gz,x,\n")
    assert found(build(root, group_per="patient")[0])["volume_as_group"] == ("stop", both[1:])


def test_a_bucket_of_volumes_goes_through_prepare_and_no_volume_is_torn(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    for number in range(16):
        save(tmp_path / "v.nii.gz", volume((8, 8, 4), seed=number))
        fs.pipe_file(f"/volumes/{'ab'[number % 2]}/{number:02d}.nii.gz", (tmp_path / "v.nii.gz").read_bytes())
    settings = {"root": "memory://volumes", "resolution": 8, "group_per": "volume"}
    try:
        data = prepare(DataConfig(adapter="nifti", **settings), SplitConfig())
    finally:
        fs.rm("/volumes", recursive=True)
    assert len(data.images) == 64
    groups = data.images.groups
    assert [g for g in set(groups) if len(set(data.splits[groups == g])) > 1] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"value_window": [5, 5]}, "value_window is [low, high] with low < high, got [5.0, 5.0]"),
        ({"value_percentiles": [1, 101]}, "value_percentiles must be in [0, 100], got [1.0, 101.0]"),
        ({"axis": "oblique"}, "'axial', 'coronal' or 'sagittal'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure("data", Spec(use="nifti", config={"root": "x", **settings}))
    assert message in str(caught.value)


def test_no_volume_at_all_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"x")
    with pytest.raises(AuditError, match=r"no image that can be used below it: a.nii \(unreadable damaged"):
        build(tmp_path)


def test_a_missing_nibabel_names_the_extra(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write()
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ConfigError, match=r"pip install 'medsynth-ray\[medical\]'"):
        build(root)
