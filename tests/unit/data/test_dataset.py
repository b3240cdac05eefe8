from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsynth_ray import registry
from medsynth_ray.data._decode import shrink
from medsynth_ray.data._thumbnails import thumbnails
from medsynth_ray.data.audit import Finding
from medsynth_ray.data.dataset import Dataset, _given, audit, prepare, source_key
from medsynth_ray.errors import AuditError, StoreError
from medsynth_ray.protocols import Component, ComponentConfig, ImageRecord, Spec
from medsynth_ray.sections import DataConfig, RealShare, SplitConfig

Tree = Callable[..., Path]
SPLIT = SplitConfig()


@pytest.fixture
def config(tree: Tree, by_person: dict[str, str]) -> DataConfig:
    return DataConfig(root=str(tree({"a": 30, "b": 20})), resolution=16, **by_person)


def test_prepare_gives_sorted_images_whole_groups_and_all_classes(config: DataConfig) -> None:
    data = prepare(config, SPLIT)
    assert data.images.pixels.shape == (50, 16, 16, 3)
    assert data.class_names == ("a", "b")
    assert data.images.ids.tolist() == sorted(data.images.ids)
    shares = np.array(list(data.counts().values())) / [30, 20]
    assert np.abs(shares - np.array([[0.5], [0.2], [0.3]])).max() <= 0.1
    groups = [set(data.part(split).groups) for split in ("train", "val", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 25
    assert data.part("val") is data.part("val")


def test_pixels_are_pillows_antialiased_bicubic(config: DataConfig) -> None:
    data = prepare(config, SPLIT)
    file = Path(config.adapter_config().root) / str(data.images.ids[3])
    expected = np.asarray(Image.open(file).resize((16, 16), Image.Resampling.BICUBIC))
    assert (data.images.pixels[3] == expected).all()


@pytest.mark.parametrize(
    ("channels", "gray", "depth"), [("auto", True, 1), ("auto", False, 3), (1, False, 1), (3, True, 3)]
)
def test_channels(tree: Tree, by_person: dict[str, str], channels: object, gray: bool, depth: int) -> None:
    root = tree({"a": 20, "b": 20})
    for file in sorted(root.rglob("*.png"))[: None if gray else -1]:
        Image.open(file).convert("L").save(file)
    data = prepare(DataConfig(root=str(root), resolution=8, channels=channels, **by_person), SPLIT)
    assert data.images.image_shape == (8, 8, depth)
    first = np.asarray(Image.open(root / str(data.images.ids[0])).resize((8, 8), Image.Resampling.BICUBIC))
    assert (data.images.pixels[0] == first[..., None]).all()


def test_threads_and_progress_do_not_change_the_result(config: DataConfig) -> None:
    seen: list[tuple[int, int, str]] = []
    one = prepare(config, SPLIT, num_threads=1)
    four = prepare(config, SPLIT, num_threads=4, progress=lambda *args: seen.append(args))
    assert one.fingerprint == four.fingerprint
    assert seen[-1] == (50, 50, "decode")


def test_save_is_deterministic_and_load_gives_it_back(config: DataConfig, tmp_path: Path) -> None:
    data = prepare(config, SPLIT)
    for name in ("one", "two"):
        data.save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["dataset.json", "images.safetensors", "thumbnails.safetensors"]
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "two" / f).read_bytes() for f in files)
    loaded = Dataset.load(tmp_path / "one")
    assert loaded.fingerprint == data.fingerprint
    assert (loaded.table, loaded.findings, loaded.counts()) == (data.table, data.findings, data.counts())
    with pytest.raises(ValueError, match="read-only"):
        loaded.images.pixels[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        loaded.splits[0] = "test"


def test_load_refuses_changed_files(config: DataConfig, tmp_path: Path) -> None:
    prepare(config, SPLIT).save(tmp_path)
    text = json.loads((tmp_path / "dataset.json").read_text())
    row = next(row for row in text["table"] if row["split"] == "test")
    row["split"] = "train"
    (tmp_path / "dataset.json").write_text(json.dumps(text))
    with pytest.raises(StoreError, match="fingerprint is"):
        Dataset.load(tmp_path)


def test_part_names_what_is_allowed(config: DataConfig) -> None:
    with pytest.raises(ValueError, match="split must be one of train, val, test, got 'dev'"):
        prepare(config, SPLIT).part("dev")


def test_source_key_moves_with_content_labels_and_settings_but_not_with_place(
    config: DataConfig, tree: Tree, tmp_path: Path
) -> None:
    root = Path(config.adapter_config().root)
    key = source_key(config, SPLIT)
    assert json.loads(json.dumps(key)) == key == source_key(config, SPLIT)
    root.rename(tmp_path / "moved")
    moved = config.model_copy(update={"root": str(tmp_path / "moved")})
    assert source_key(moved, SPLIT) == key
    assert source_key(moved.model_copy(update={"resolution": 32}), SPLIT) != key
    assert source_key(moved, SplitConfig(split_seed=1)) != key
    os.utime(tmp_path / "moved" / "a" / "a00_0.png", (1, 1))
    assert source_key(moved, SPLIT)["records_sha256"] != key["records_sha256"]


def test_source_key_reads_no_pixel(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsynth_ray.data.adapters.folder.Folder.read", lambda *_: pytest.fail("read a pixel"))
    assert source_key(config, SPLIT)["adapter"] == "folder"


def test_metadata_columns_reach_the_table_and_ours_win(tree: Tree) -> None:
    root = tree({"a": 20, "b": 20})
    files = sorted(str(p.relative_to(root)) for p in root.rglob("*.png"))
    rows = [f"{name},{i // 2},study-{i},{40 + i}" for i, name in enumerate(files)]
    (root / "metadata.csv").write_text("path,group,id,age\n" + "\n".join(rows) + "\n")
    row = prepare(DataConfig(root=str(root), resolution=8), SPLIT).table[3]
    assert row.pop("split") in ("train", "val", "test")
    assert row == {"id": files[3], "label": "a", "group": "1", "meta_id": "study-3", "age": "43"}


def test_an_image_of_two_persons_joins_them(tree: Tree, by_person: dict[str, str]) -> None:
    root = tree({"a": 30, "b": 30})
    (root / "a" / "a09_0.png").write_bytes((root / "a" / "a02_1.png").read_bytes())
    data = prepare(DataConfig(root=str(root), resolution=16, **by_person), SPLIT)
    rows = {row["id"]: row for row in data.table}
    assert "a/a09_0.png" not in rows
    assert rows["a/a09_1.png"]["group"] == rows["a/a02_0.png"]["group"] == "a02"
    assert rows["a/a09_1.png"]["split"] == rows["a/a02_0.png"]["split"]


@pytest.mark.parametrize("groups", ["required", "none"])
def test_groups_none_lets_every_image_stand_alone(tree: Tree, groups: str) -> None:
    config = DataConfig(root=str(tree({"a": 20, "b": 20})), resolution=8, groups=groups)
    if groups == "required":
        with pytest.raises(AuditError, match=r"40 images: no group .*set data.groups: none"):
            prepare(config, SPLIT)
        return
    data = prepare(config, SPLIT)
    assert (data.images.groups == data.images.ids).all()
    assert [f.kind for f in data.findings] == ["no_groups", "near_duplicate"]
    assert data.counts() == {"train": [10, 10], "val": [4, 4], "test": [6, 6]}


def with_splits(tree: Tree, root: Path) -> Path:
    for number, folder in enumerate(("train", "valid", "test")):
        made = tree({f"a{number}": 20, f"b{number}": 20}, root=root / folder)
        for letter in "ab":
            (made / f"{letter}{number}").rename(made / letter)
    # The same noise in several splits would be copies; one changed pixel is enough for exact ones.
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        pixels = np.array(Image.open(file))
        pixels[0, 0] = number
        Image.fromarray(pixels).save(file)
    return root


def test_given_folders_are_kept_and_can_be_ignored(tree: Tree, tmp_path: Path, by_person: dict[str, str]) -> None:
    root = with_splits(tree, tmp_path / "s")
    config = DataConfig(root=str(root), resolution=16, **by_person)
    assert prepare(config, SPLIT).counts() == {"train": [20, 20], "val": [20, 20], "test": [20, 20]}
    fresh = prepare(config, SplitConfig(given="ignore")).counts()
    assert fresh == {"train": [30, 30], "val": [12, 12], "test": [18, 18]}


def test_a_group_or_copy_across_given_splits_stops_and_is_named(
    tree: Tree, tmp_path: Path, by_person: dict[str, str]
) -> None:
    root = with_splits(tree, tmp_path / "s")
    (root / "test" / "a" / "a003_7.png").write_bytes((root / "train" / "a" / "a000_0.png").read_bytes())
    (root / "test" / "b" / "b203_0.png").rename(root / "test" / "b" / "b003_9.png")
    findings, _ = audit(DataConfig(root=str(root), resolution=16, **by_person), SPLIT)
    stops = {f.kind: f.ids for f in findings if f.severity == "stop"}
    # The copy joins a000 with a003, which train and test now share.
    copies = ("test/a/a003_7.png", "train/a/a000_0.png")
    assert stops == {"duplicate_across_splits": copies, "split": ("a000", "b003")}


@pytest.mark.parametrize(
    ("value", "severity", "message"),
    [("dev", "stop", "split 'dev' is none of train, val"), ("", "warn", "1 of 40 images have no split in the data")],
)
def test_unclear_given_split(tree: Tree, value: str, severity: str, message: str) -> None:
    root = tree({"a": 20, "b": 20})
    files = sorted(str(p.relative_to(root)) for p in root.rglob("*.png"))
    rows = [f"{name},{i},{value if i == 5 else 'train'}" for i, name in enumerate(files)]
    (root / "metadata.csv").write_text("path,group,split\n" + "\n".join(rows) + "\n")
    findings, _ = audit(DataConfig(root=str(root), resolution=8), SPLIT)
    found = next(f for f in findings if f.kind == "given_split")
    assert (found.severity, found.ids, message in found.message) == (severity, (files[5],), True)


def test_all_stops_are_listed_at_once(tree: Tree) -> None:
    with pytest.raises(AuditError) as caught:
        prepare(DataConfig(root=str(tree({"only": 5})), resolution=8), SPLIT)
    assert [line[:24] for line in str(caught.value).splitlines()] == [
        "the data cannot be used ",
        "- 5 images: no group (pa",
        "- class 'only' has 5 usa",
        "- two classes or more ar",
    ]


def test_a_class_that_loses_all_its_images_is_named(tree: Tree, by_person: dict[str, str]) -> None:
    root = tree({"a": 30, "b": 30, "c": 2})
    for file in (root / "c").iterdir():
        file.write_bytes(b"")
    with pytest.raises(AuditError, match=r"class 'c' has 0 usable images, 12 are needed"):
        prepare(DataConfig(root=str(root), resolution=8, **by_person), SPLIT)


def test_nothing_usable_is_a_stop_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(b"")
    with pytest.raises(AuditError, match=r"two classes or more are needed, found 0: no usable image"):
        prepare(DataConfig(root=str(tmp_path), groups="none"), SPLIT)


@pytest.mark.real
@pytest.mark.slow
def test_kermany_has_32_copies_and_keeps_patients_apart() -> None:
    repository = Path(__file__).resolve().parents[3]
    root = Path(os.environ.get("MEDSYNTH_REAL_DATA", repository.parent / "shared" / "data")) / "kermany_cxr"
    if not root.is_dir():
        pytest.skip(f"no real images in {root}")
    data = prepare(DataConfig(root=str(root), resolution=32), SPLIT)
    copies = next(f for f in data.findings if f.kind == "duplicate")
    assert (len(copies.ids), len(data.images), data.images.image_shape) == (32, 5840 - 32, (32, 32, 1))
    patients = [set(data.part(split).groups) for split in ("train", "val", "test")]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 3272
    shares = np.array(list(data.counts().values())) / data.images.counts()
    assert np.abs(shares - np.array([[0.5], [0.2], [0.3]])).max() < 0.002


@pytest.mark.parametrize("resize", ["stretch", "pad", "crop"])
def test_resize_keeps_what_it_says(resize: str) -> None:
    """A bright bar across the middle of a 2:1 image."""
    wide = np.zeros((32, 64), dtype=np.uint8)
    wide[:, 24:40] = 200
    small = shrink(Image.fromarray(wide), 16, 1, resize)[..., 0]
    bright_columns = {"stretch": 4, "pad": 4, "crop": 8}[resize]
    bright_rows = {"stretch": 16, "pad": 8, "crop": 16}[resize]
    assert ((small[8] > 100).sum(), (small[:, 8] > 100).sum()) == (bright_columns, bright_rows)
    assert small.shape == (16, 16)


class Halve(Component):
    """A preprocessing step for these tests: the left half, and nothing darker than `least`."""

    version = 3

    class Config(ComponentConfig):
        least: int = 0

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        if pixels.max() < self.config.least:
            raise ValueError(f"too dark, {pixels.max()}")
        return pixels[:, : pixels.shape[1] // 2]


@pytest.fixture
def halving(monkeypatch: pytest.MonkeyPatch) -> None:
    load, names = registry.load, registry.names
    monkeypatch.setattr(registry, "load", lambda role, name: Halve if name == "halve" else load(role, name))
    monkeypatch.setattr(registry, "names", lambda role: [*names(role), "halve"])


@pytest.mark.usefixtures("halving")
def test_preprocessing_comes_before_resizing_and_leaves_digests_alone(config: DataConfig) -> None:
    root = Path(config.adapter_config().root)
    (root / "b" / "b90_0.png").write_bytes((root / "b" / "b00_0.png").read_bytes())
    data = prepare(config.model_copy(update={"preprocess": (Spec(use="halve"), Spec(use="halve"))}), SPLIT)
    quarter = Image.open(root / str(data.images.ids[3])).crop((0, 0, 6, 24))
    assert (data.images.pixels[3] == np.asarray(quarter.resize((16, 16), Image.Resampling.BICUBIC))).all()
    assert [f.ids for f in data.findings if f.kind == "duplicate"] == [("b/b90_0.png",)]


@pytest.mark.usefixtures("halving")
def test_an_image_that_a_step_refuses_is_set_aside_with_its_thumbnail(config: DataConfig) -> None:
    root = Path(config.adapter_config().root)
    Image.new("RGB", (24, 24), (9, 9, 9)).save(root / "a" / "a90_0.png")
    steps = (Spec(use="halve", config={"least": 10}),)
    data = prepare(config.model_copy(update={"preprocess": steps}), SPLIT)
    found = next(f for f in data.findings if f.kind == "preprocess")
    assert (found.severity, found.ids) == ("quarantine", ("a/a90_0.png",))
    assert "a/a90_0.png (halve: too dark, 9)" in found.message
    assert data.thumbnails["a/a90_0.png"].shape == (16, 16, 1)
    assert (data.thumbnails["a/a90_0.png"] == 9).all()


@pytest.mark.usefixtures("halving")
def test_a_step_that_returns_no_image_is_a_bug_of_the_step(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Halve, "apply", lambda self, pixels: pixels.astype(np.float32))
    with pytest.raises(TypeError, match=r"data.preprocess 'halve' must return uint8 .* got float32 \(24, 24, 3\)"):
        prepare(config.model_copy(update={"preprocess": (Spec(use="halve"),)}), SPLIT)


@pytest.mark.usefixtures("halving")
def test_source_key_holds_steps_with_versions_but_no_share_of_train(
    config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped = config.model_copy(update={"preprocess": (Spec(use="halve"),)})
    key = source_key(stepped, SPLIT)
    assert key["preprocess"] == [{"use": "halve", "version": 3, "config": {"least": 0}}]
    assert source_key(config, SPLIT) != key
    fewer = stepped.model_copy(update={"real_share": RealShare(classifier=0.5)})
    assert source_key(fewer, SPLIT) == key
    monkeypatch.setattr(Halve, "version", 4)
    assert source_key(stepped, SPLIT) != key
    for other in ({"resize": "pad"}, {"window": (0.0, 9.0)}, {"near_duplicates": "ignore"}):
        assert source_key(config.model_copy(update=other), SPLIT) != source_key(config, SPLIT)


def test_thumbnails_are_few_small_and_come_back(tree: Tree, by_person: dict[str, str], tmp_path: Path) -> None:
    root = tree({"a": 200, "b": 30})
    for i in range(9):
        (root / "a" / f"a9{i}_9.png").write_bytes((root / "a" / f"a{i:02d}_0.png").read_bytes())
    (root / "b" / "b99_0.png").write_bytes(b"")
    config = DataConfig(root=str(root), resolution=80, **by_person)
    data = prepare(config, SPLIT)
    aside = [f"a/a9{i}_9.png" for i in range(9)]
    not_looked_at = next(f for f in data.findings if f.kind == "near_duplicate")
    assert set(data.thumbnails) == {*aside[:8], *not_looked_at.ids[:8]}
    assert {small.shape for small in data.thumbnails.values()} == {(64, 64, 3)}
    data.save(tmp_path / "saved")
    loaded = Dataset.load(tmp_path / "saved")
    assert list(loaded.thumbnails) == sorted(data.thumbnails)
    assert all((loaded.thumbnails[name] == data.thumbnails[name]).all() for name in data.thumbnails)
    assert loaded.stamps == data.stamps
    assert len(loaded.stamps) == 230 + 9 + 1


@pytest.mark.parametrize(("kind", "shown"), [("burned_in", "cd"), ("patient_in_path", "cd"), ("palette", "abcd")])
def test_images_that_may_name_a_patient_get_no_thumbnail_whatever_names_them(kind: str, shown: str) -> None:
    findings = [Finding("near_duplicate", "warn", "", tuple("abcd")), Finding(kind, "warn", "", tuple("ab"))]
    pixels = np.zeros((4, 8, 8, 1), dtype=np.uint8)
    assert list(thumbnails(findings, dict(zip("abcd", range(4), strict=True)), pixels)) == list(shown)


def test_images_too_small_to_be_near_duplicates_are_counted(tree: Tree, by_person: dict[str, str]) -> None:
    root = tree({"a": 20, "b": 20})
    for number, file in enumerate(sorted(root.rglob("*.png"))[5:]):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (32, 40), dtype=np.uint8)).save(file)
    even = sorted(root.rglob("*.png"))[5]
    Image.new("L", (40, 40), 90).save(even)
    found = prepare(DataConfig(root=str(root), resolution=8, **by_person), SPLIT).findings
    assert [(f.kind, f.severity, len(f.ids)) for f in found] == [("near_duplicate", "warn", 6)]
    assert (
        "6 images: a side below 32 px (or no contrast), not looked at for near duplicates: a/a00_0" in found[0].message
    )


def test_near_duplicates_can_be_left_alone(tree: Tree, by_person: dict[str, str]) -> None:
    config = DataConfig(root=str(tree({"a": 20, "b": 20})), resolution=8, near_duplicates="ignore", **by_person)
    found = prepare(config, SPLIT).findings
    assert [(f.kind, f.severity) for f in found] == [("near_duplicate", "warn")]
    assert "nearly equal images were not looked for" in found[0].message


def test_a_stray_image_without_a_label_does_not_cost_the_given_split() -> None:
    records = [ImageRecord(f"{s}/{c}/{i}.png", c, None, s) for s in ("train", "test") for c in "ab" for i in range(2)]
    given, findings = _given([*records, ImageRecord("stray.png", None)], SplitConfig())
    assert list(given) == ["train"] * 4 + ["test"] * 4 + [""]
    assert findings == []
