from __future__ import annotations

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from medsynth_ray.data.adapters import huggingface
from medsynth_ray.data.adapters.huggingface import Huggingface
from medsynth_ray.data.dataset import prepare
from medsynth_ray.errors import AuditError, ConfigError
from medsynth_ray.protocols import Spec
from medsynth_ray.registry import configure
from medsynth_ray.sections import DataConfig, SplitConfig

Noise = Callable[..., np.ndarray]
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["normal", "pneumonia"], "_type": "ClassLabel"},
    "patient": {"dtype": "string", "_type": "Value"},
}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def shard(path: Path, images: list[bytes | None], features: dict | None = None, **columns: list) -> None:
    """Writes a shard as `datasets` does: {bytes, path} structs, features in the schema's metadata, small row groups."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    structs = [{"bytes": data, "path": f"p{i // 2}_{i}.png"} for i, data in enumerate(images)]
    table = pa.table({"image": pa.array(structs, kind), **{name: pa.array(values) for name, values in columns.items()}})
    text = json.dumps({"info": {"features": FEATURES if features is None else features}})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": text}), path, row_group_size=3)


@pytest.fixture
def shards(tmp_path: Path, noise: Noise) -> Path:
    """Two shards of train, one of validation and one of test, 8 images each, two classes in turn."""
    names = ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001")
    for place, name in enumerate(names):
        images = [png(noise(100 * place + i)) for i in range(8)]
        labels, patients = [i % 2 for i in range(8)], [f"{place}-{i // 2}" for i in range(8)]
        shard(tmp_path / "hf/data" / f"{name}.parquet", images, label=labels, patient=patients, age=[70.5] * 8)
    return tmp_path / "hf"


@pytest.fixture
def folder(tmp_path: Path, noise: Noise) -> Callable[..., Path]:
    """Writes images at the given paths below root."""

    def make(*paths: str) -> Path:
        for number, path in enumerate(paths):
            (tmp_path / "hf" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "hf" / path).write_bytes(png(noise(number)))
        return tmp_path / "hf"

    return make


def build(root: object, **settings: object) -> tuple[Huggingface, list]:
    adapter = Huggingface.Config(root=str(root), **settings).build()
    return adapter, adapter.scan()


def found(adapter: Huggingface) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {f.kind: (f.severity, f.ids) for f in adapter.findings}


def test_shards_give_names_of_classes_splits_and_metadata(shards: Path) -> None:
    records = build(shards, group_column="patient")[1]
    assert len(records) == 32
    assert [r.id for r in records] == sorted(r.id for r in records)
    last = records[-1]
    assert (last.id, last.label, last.group, last.split, last.meta) == (
        "data/validation-00000-of-00001.parquet#000007", "pneumonia", "2-3", "val", {"age": "70.5"},
    )  # fmt: skip
    assert {r.split for r in records} == {"train", "val", "test"}


def test_each_record_reads_its_own_image_in_many_threads(shards: Path, noise: Noise) -> None:
    adapter, records = build(shards)
    places = ("test", "train-00000", "train-00001", "validation")
    written = [png(noise(100 * place + i)) for place in (3, 0, 1, 2) for i in range(8)]
    assert [next(p for p in places if p in r.id) for r in records[::8]] == list(places)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(adapter.read, reversed(records))) == written[::-1]


def test_a_row_group_is_unpacked_once_in_order(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = huggingface.read_images
    monkeypatch.setattr(
        huggingface, "read_images", lambda file, group, image: calls.append(group) or real(file, group, image)
    )
    adapter, records = build(shards)
    for record in records:
        adapter.read(record)
    assert calls == [0, 1, 2] * 4


def test_listing_shards_reads_no_image(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[str]] = []
    real = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", lambda self, columns, **k: read.append(columns) or real(self, columns=columns, **k))  # fmt: skip  # noqa: E501
    build(shards)
    assert read == [["label", "patient", "age", "image.path"]] * 4


def test_shards_in_a_bucket_go_through_prepare(shards: Path) -> None:
    fs = fsspec.filesystem("memory")
    for path in (shards / "data").iterdir():
        fs.pipe_file(f"/hub/data/{path.name}", path.read_bytes())
    settings = {"root": "memory://hub", "group_column": "patient", "resolution": 16, "min_class_images": 8}
    try:
        data = prepare(DataConfig(adapter="huggingface", **settings), SplitConfig())
    finally:
        fs.rm("/hub", recursive=True)
    assert data.counts() == {"train": [8, 8], "val": [4, 4], "test": [4, 4]}
    assert data.class_names == ("normal", "pneumonia")


def test_group_regex_looks_at_the_path_stored_with_the_image(shards: Path) -> None:
    assert [r.group for r in build(shards, group_regex=r"^(p\d+)_")[1][:4]] == ["p0", "p0", "p1", "p1"]


def test_labels_without_names_and_missing_labels(tmp_path: Path, noise: Noise) -> None:
    images = [png(noise(i)) for i in range(4)]
    shard(tmp_path / "a.parquet", images, {}, label=["x", None, "y", ""])
    shard(tmp_path / "b.parquet", images, label=[0, -1, 1, None], extra=[[1], [2], [3], [4]])
    records = build(tmp_path)[1]
    assert [r.label for r in records] == ["x", None, "y", None, "normal", None, "pneumonia", None]
    assert {r.split for r in records} == {None}
    assert records[4].meta == {}


def test_nan_is_a_gap_and_whole_floats_are_whole_numbers(tmp_path: Path, noise: Noise) -> None:
    images, gaps = [png(noise(i)) for i in range(4)], [1.0, float("nan"), 12.0, 2.5]
    shard(tmp_path / "a.parquet", images, {}, label=gaps, group=gaps, dose=gaps)
    shard(tmp_path / "b.parquet", images, label=[0.0, float("nan"), 1.0, 2.0])
    records = build(tmp_path)[1]
    texts = ["1", None, "12", "2.5"]
    assert [r.label for r in records] == [*texts, "normal", None, "pneumonia", None]
    assert [r.group for r in records[:4]] == texts
    assert [r.meta["dose"] for r in records[:4]] == ["1", "", "12", "2.5"]


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"dx": [1]}, {}, "train.parquet: no column 'label', set data.label_column; there are: dx"),
        ({"label": [1]}, {"group_column": "who"}, "data.group_column is 'who', train.parquet has: label"),
        (
            {"label": [1]},
            {"image_column": "scan"},
            "data.image_column 'scan' is no column of {bytes, path}; such are: image",
        ),  # noqa: E501
    ],
)
def test_a_missing_column_is_named(tmp_path: Path, noise: Noise, columns: dict, settings: dict, message: str) -> None:
    shard(tmp_path / "train.parquet", [png(noise(0))], {}, **columns)
    with pytest.raises(AuditError) as caught:
        build(tmp_path, **settings)
    assert message in str(caught.value)


def test_shards_without_images_or_bytes_are_named(tmp_path: Path) -> None:
    shard(tmp_path / "train.parquet", [None], label=[0])
    adapter, records = build(tmp_path)
    with pytest.raises(OSError, match=r"train.parquet row 0 has no bytes, only a path; write"):
        adapter.read(records[0])
    pq.write_table(pa.table({"label": [1]}), tmp_path / "train.parquet")
    with pytest.raises(AuditError, match=r"train.parquet: no column of images \{bytes, path\}; there are: label"):
        build(tmp_path)


@pytest.mark.parametrize("damage", [lambda data: b"PAR1" + data[4:-40], lambda data: b"hello", lambda data: b""])
def test_a_damaged_shard_is_named(shards: Path, damage: Callable[[bytes], bytes]) -> None:
    path = shards / "data/test-00000-of-00001.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(AuditError, match=r"data/test-00000-of-00001.parquet: not a parquet file"):
        build(shards)


def test_damaged_images_of_a_shard_are_an_os_error(shards: Path) -> None:
    adapter, records = build(shards)
    path = shards / "data/test-00000-of-00001.parquet"
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(bytes(data))
    with pytest.raises(OSError, match="cannot be unpacked"):
        adapter.read(records[0])


def test_a_shard_that_leaves_the_root_is_refused(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.parquet").write_bytes((shards / "data/test-00000-of-00001.parquet").read_bytes())
    (shards / "data" / "more.parquet").symlink_to(tmp_path / "outside.parquet")
    with pytest.raises(AuditError, match=r"'data/more.parquet' below .* is a link that leaves the root"):
        build(shards)


@pytest.mark.parametrize(("name", "split"), [("train", "train"), ("validation", "val"), ("test", "test")])
def test_class_folders_in_split_folders(folder: Callable[..., Path], name: str, split: str) -> None:
    root = folder(f"{name}/cat/a.png", f"{name}/dog/b.png")
    adapter, records = build(root)
    assert [(r.id, r.label, r.split) for r in records] == [
        (f"{name}/cat/a.png", "cat", split), (f"{name}/dog/b.png", "dog", split),
    ]  # fmt: skip
    assert adapter.read(records[0]) == (root / f"{name}/cat/a.png").read_bytes()


def write_metadata(path: Path, rows: list[dict[str, object]]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(str(v) for v in row.values()) for row in rows)]
        path.write_text("\n".join(lines))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_metadata_file_in_each_split_names_files_below_itself(folder: Callable[..., Path], suffix: str) -> None:
    root = folder("train/x/1.png", "train/2.png", "test/1.png")
    rows = [{"file_name": "x/1.png", "label": "a", "group": "p", "sex": "f"},
            {"file_name": "2.png", "label": "b", "group": "q", "sex": "m"}]  # fmt: skip
    write_metadata(root / f"train/metadata.{suffix}", rows)
    write_metadata(root / f"test/metadata.{suffix}", [{"file_name": "1.png", "label": "a", "group": "r", "sex": "f"}])
    adapter, records = build(root)
    assert [(r.id, r.label, r.group, r.split, r.meta) for r in records] == [
        ("test/1.png", "a", "r", "test", {"sex": "f"}),
        ("train/2.png", "b", "q", "train", {"sex": "m"}),
        ("train/x/1.png", "a", "p", "train", {"sex": "f"}),
    ]
    assert adapter.findings == []


def test_rows_and_files_that_do_not_meet_are_named(folder: Callable[..., Path]) -> None:
    root = folder("train/1.png", "train/2.png", "train/3.png")
    rows = [{"file_name": name, "dx": dx} for name, dx in (("1.png", "a"), ("gone.png", "a"), ("3.png", "a"), ("3.png", "b"))]  # fmt: skip  # noqa: E501
    write_metadata(root / "train/metadata.csv", rows)
    adapter, records = build(root, label_column="dx")
    assert [(r.id, r.label) for r in records] == [("train/1.png", "a")]
    assert found(adapter) == {
        "repeated_row": ("quarantine", ("train/3.png",)),
        "row_without_file": ("quarantine", ("train/gone.png",)),
        "file_without_row": ("warn", ("train/2.png", "train/3.png")),
    }


def test_without_a_label_column_the_folder_is_the_label(folder: Callable[..., Path]) -> None:
    root = folder("train/cat/1.png", "train/2.png")
    write_metadata(
        root / "metadata.jsonl", [{"file_name": "train/cat/1.png", "group": "p"}, {"file_name": "train/2.png"}]
    )
    assert [(r.id, r.label, r.group) for r in build(root)[1]] == [
        ("train/2.png", None, None), ("train/cat/1.png", "cat", "p"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.csv", b"path,label\n1.png,a\n", "train/metadata.csv: no column 'file_name'; there are: path, label"),
        ("metadata.jsonl", b"{", "train/metadata.jsonl line 1"),
        ("metadata.parquet", b"PAR1", "train/metadata.parquet: not a parquet file"),
    ],
)
def test_broken_metadata_is_named(folder: Callable[..., Path], name: str, content: bytes, message: str) -> None:
    root = folder("train/1.png")
    (root / "train" / name).write_bytes(content)
    with pytest.raises(AuditError) as caught:
        build(root)
    assert message in str(caught.value)


def test_arrow_files_of_save_to_disk_are_named(tmp_path: Path) -> None:
    (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"ARROW1")
    with pytest.raises(AuditError, match="holds Arrow files of save_to_disk; write the data set with to_parquet"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("regex", "message"), [("p[0-9]+", "needs a (...) around the group"), ("(", "is no regular expression")]
)
def test_a_wrong_regex_is_refused(regex: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure("data", Spec(use="huggingface", config={"root": "x", "group_regex": regex}))
    assert message in str(caught.value)
