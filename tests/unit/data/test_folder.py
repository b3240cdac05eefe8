from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from medsynth_ray.data.adapters.folder import Folder
from medsynth_ray.errors import AuditError, ConfigError
from medsynth_ray.protocols import Spec
from medsynth_ray.registry import configure

Tree = Callable[..., Path]


def scan(root: object, **settings: object) -> tuple[Folder, list]:
    adapter = Folder.Config(root=str(root), **settings).build()
    return adapter, adapter.scan()


def kinds(adapter: Folder) -> list[tuple[str, str]]:
    return [(f.severity, f.kind) for f in adapter.findings]


def test_class_folders_give_sorted_ids_labels_and_stamps(tree: Tree, by_person: dict[str, str]) -> None:
    root = tree({"b": 2, "a": 1})
    adapter, records = scan(root, **by_person)
    assert [(r.id, r.label, r.group, r.split) for r in records] == [
        ("a/a00_0.png", "a", "a00", None),
        ("b/b00_0.png", "b", "b00", None),
        ("b/b00_1.png", "b", "b00", None),
    ]
    assert adapter.read(records[0]) == (root / "a/a00_0.png").read_bytes()
    assert adapter.findings == []
    before = records[0].stamp
    os.utime(root / "a/a00_0.png", (1, 1))
    assert scan(root)[1][0].stamp != before


@pytest.mark.parametrize(
    ("folder", "split"), [("train", "train"), ("val", "val"), ("valid", "val"), ("Validation", "val"), ("TEST", "test")]
)
def test_split_folders_are_read_and_spelled_alike(tree: Tree, tmp_path: Path, folder: str, split: str) -> None:
    tree({"a": 1, "b": 1}, root=tmp_path / "r" / folder)
    assert {(r.label, r.split) for r in scan(tmp_path / "r")[1]} == {("a", split), ("b", split)}


def test_a_class_called_train_beside_another_class_is_a_class(tree: Tree) -> None:
    assert {(r.label, r.split) for r in scan(tree({"train": 1, "plane": 1}))[1]} == {("train", None), ("plane", None)}


@pytest.mark.parametrize("classes", [{"plane": 1, "test": 1}, {"test": 2}, {"plane": 1, "Train": 1, "car": 1}])
def test_one_flat_folder_with_a_splits_name_is_a_class(tree: Tree, classes: dict[str, int]) -> None:
    adapter, records = scan(tree(classes))
    assert ({r.label for r in records}, {r.split for r in records}, adapter.findings) == (set(classes), {None}, [])


@pytest.mark.parametrize(
    ("stray", "split"), [("test/1.png", "test"), ("example.png", None), ("plane/1.png", None), ("plane/x/1.png", None)]
)
def test_images_beside_the_class_folders_of_splits_have_no_class(
    tree: Tree, tmp_path: Path, stray: str, split: str | None
) -> None:
    root = tree({"NORMAL": 2, "PNEUMONIA": 2}, root=tmp_path / "r" / "train").parent
    (root / stray).parent.mkdir(parents=True, exist_ok=True)
    (root / stray).write_bytes(b"x")
    adapter, records = scan(root)
    assert {(r.label, r.split) for r in records} == {("NORMAL", "train"), ("PNEUMONIA", "train"), (None, split)}
    assert [(f.severity, f.kind, f.ids) for f in adapter.findings] == [("warn", "no_class_folder", (stray,))]
    assert "not in a class folder of a split folder" in adapter.findings[0].message


def test_two_flat_split_folders_are_splits_whose_class_a_table_may_give(tree: Tree) -> None:
    root = tree({"train": 1, "test": 1})
    adapter, records = scan(root)
    assert {(r.label, r.split) for r in records} == {(None, "train"), (None, "test")}
    assert kinds(adapter) == [("warn", "no_class_folder")]
    (root / "metadata.csv").write_text("path,label\ntrain/train00_0.png,x\ntest/test00_0.png,y\n")
    adapter, records = scan(root)
    assert [(r.label, r.split) for r in records] == [("y", "test"), ("x", "train")]
    assert adapter.findings == []


def test_numbers_of_jsonl_are_whole_where_they_can_be_and_nan_is_a_gap(tree: Tree) -> None:
    root = tree({"a": 3})
    names = ("a/a00_0.png", "a/a00_1.png", "a/a01_0.png")
    rows = zip(names, (3.0, float("nan"), 2.5), strict=True)
    lines = [json.dumps({"path": name, "label": grade, "group": grade}) for name, grade in rows]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    assert [(r.label, r.group) for r in scan(root)[1]] == [("3", "3"), (None, None), ("2.5", "2.5")]


def test_memory_bucket_with_metadata_is_read_like_a_local_folder() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/bucket/x/one.png", b"1")
    fs.pipe_file("/bucket/x/two.png", b"2")
    fs.pipe_file(
        "/bucket/metadata.csv", b"path,label,group,split,age\nx/one.png,sick,p1,train,70\nx/two.png,well,p2,valid,\n"
    )
    try:
        adapter, records = scan("memory://bucket")
        assert [(r.id, r.label, r.group, r.split, r.meta) for r in records] == [
            ("x/one.png", "sick", "p1", "train", {"age": "70"}),
            ("x/two.png", "well", "p2", "val", {"age": ""}),
        ]
        assert adapter.read(records[1]) == b"2"
        assert records[0].stamp.startswith("1-")
    finally:
        fs.rm("/bucket", recursive=True)


def test_jsonl_with_named_columns_and_nested_values(tree: Tree) -> None:
    root = tree({"a": 2})
    lines = [
        {"file_name": "a/a00_0.png", "dx": 3, "patient": "p", "box": [1, 2], "label": "other"},
        {"file_name": "./a/a00_1.png", "dx": "4"},
    ]
    (root / "m.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    _, records = scan(root, metadata="m.jsonl", label_column="dx", group_column="patient")
    assert [(r.label, r.group) for r in records] == [("3", "p"), ("4", None)]
    assert records[0].meta == {"box": "[1, 2]", "label": "other"}


def test_without_a_label_column_the_folder_is_the_label(tree: Tree) -> None:
    root = tree({"a": 1, "b": 1})
    (root / "metadata.csv").write_text("path,group\na/a00_0.png,p\nb/b00_0.png,q\n")
    assert [(r.label, r.group) for r in scan(root)[1]] == [("a", "p"), ("b", "q")]


def test_rows_and_files_that_do_not_meet_are_named(tree: Tree) -> None:
    root = tree({"a": 3})
    rows = ["a/a00_0.png,x", "a/gone.png,x", "../../etc/passwd,x", "a/a01_0.png,x", "a/a01_0.png,y", "a/a00_0.png,x"]
    (root / "metadata.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    adapter, records = scan(root)
    assert [r.id for r in records] == ["a/a00_0.png"]
    found = {(f.severity, f.kind): f.ids for f in adapter.findings}
    assert found == {
        ("quarantine", "row_without_file"): ("../../etc/passwd", "a/gone.png"),
        ("warn", "file_without_row"): ("a/a00_1.png",),
        ("warn", "repeated_row"): ("a/a00_0.png",),
        ("quarantine", "repeated_row"): ("a/a01_0.png",),
    }


@pytest.mark.parametrize(
    "junk", [".hidden.png", "._a.png", "Thumbs.db", "__MACOSX/a.png", ".git/a.png", "desktop.ini", "@eaDir/a.png"]
)
def test_hidden_and_system_files_are_not_data(tree: Tree, junk: str) -> None:
    root = tree({"a": 1})
    (root / "a" / junk).parent.mkdir(exist_ok=True)
    (root / "a" / junk).write_bytes(b"x")
    adapter, records = scan(root)
    assert ([r.id for r in records], kinds(adapter)) == (["a/a00_0.png"], [("info", "ignored_files")])
    assert adapter.findings[0].ids == (f"a/{junk.partition('/')[0]}",)
    assert "left out (names that begin with a dot, $recycle.bin, @eadir, __macosx," in adapter.findings[0].message


def test_other_files_and_empty_folders_are_reported(tree: Tree) -> None:
    root = tree({"a": 1})
    (root / "a" / "notes.txt").write_text("x")
    (root / "a" / "empty").mkdir()
    adapter, _ = scan(root)
    assert kinds(adapter) == [("info", "other_files"), ("warn", "empty_folder")]
    assert adapter.findings[0].ids == ("a/notes.txt",)
    assert adapter.findings[1].ids == ("a/empty",)


@pytest.mark.parametrize(("settings", "severity"), [({}, "stop"), ({"allow_empty": True}, "info")])
@pytest.mark.parametrize("folder", ["train/empty", "train/only_notes", "none"])
def test_a_class_folder_without_an_image_stops_unless_it_may(
    tree: Tree, tmp_path: Path, settings: dict, severity: str, folder: str
) -> None:
    root = tmp_path / "r"
    tree({"a": 1}, root=root / "train")
    (root / folder).mkdir()
    if folder.endswith("notes"):
        (root / folder / "notes.txt").write_text("x")
    adapter, records = scan(root, **settings)
    found = [f for f in adapter.findings if f.kind == "empty_class"]
    assert [(f.severity, f.ids) for f in found] == [(severity, (folder,))]
    assert "set data.allow_empty: true: " + folder in found[0].message
    assert [r.id for r in records] == ["train/a/a00_0.png"]


def test_an_empty_folder_is_no_class_where_a_column_is(tree: Tree) -> None:
    root = tree({"a": 1})
    (root / "empty").mkdir()
    (root / "metadata.csv").write_text("path,label\na/a00_0.png,x\n")
    assert kinds(scan(root)[0]) == [("warn", "empty_folder")]


@pytest.mark.parametrize(
    "name",
    ["\u202egnp.evil.png", "two\nlines.png", "n" * 251 + ".png", "\u0646\u0635.png", "back\\slash.png", "a*[0]?.png"],
)
def test_odd_names_are_read_and_safe_to_print(tree: Tree, name: str) -> None:
    root = tree({"a": 1})
    (root / "b").mkdir()
    (root / "b" / name).write_bytes(b"odd")
    (root / "metadata.csv").write_text("path,group\na/a00_0.png,p\n")
    adapter, _ = scan(root)
    assert [f.ids for f in adapter.findings if f.kind == "file_without_row"] == [("b/" + name.replace("\\", "/"),)]
    assert "\n" not in adapter.findings[0].message
    assert "\u202e" not in adapter.findings[0].message
    adapter, records = scan(root, metadata=None)
    assert adapter.read(records[1]) == b"odd"


def test_a_name_that_is_not_utf8_is_set_aside(tree: Tree) -> None:
    root = tree({"a": 1})
    with open(os.fsencode(root) + b"/a/\xff.png", "wb") as file:
        file.write(b"x")
    adapter, records = scan(root)
    assert [r.id for r in records] == ["a/a00_0.png"]
    assert [(f.severity, f.kind, f.ids) for f in adapter.findings] == [
        ("quarantine", "bad_name", ("a/\\udcff.png",)),
    ]


def test_a_pipe_is_not_opened(tree: Tree) -> None:
    root = tree({"a": 1})
    os.mkfifo(root / "a" / "pipe.png")
    adapter, records = scan(root)
    assert [r.id for r in records] == ["a/a00_0.png"]
    assert [(f.severity, f.kind, f.ids) for f in adapter.findings] == [("quarantine", "special_file", ("a/pipe.png",))]


def test_a_file_that_may_not_be_read_is_named_and_stops(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree({"a": 2})
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("a00_1.png"))
    adapter, records = scan(root)
    assert [(f.severity, f.kind, f.ids) for f in adapter.findings] == [("stop", "no_permission", ("a/a00_1.png",))]
    assert [r.id for r in records] == ["a/a00_0.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["a", "metadata.csv"])
def test_a_folder_or_table_without_permission_is_named(tree: Tree, name: str) -> None:
    root = tree({"a": 1})
    (root / "metadata.csv").write_text("path,label\na/a00_0.png,x\n")
    (root / name).chmod(0)
    with pytest.raises(AuditError, match=name):
        scan(root)
    (root / name).chmod(0o755)


def test_a_link_has_the_time_of_what_it_points_to(tree: Tree) -> None:
    root = tree({"a": 1})
    (root / "a" / "in.png").symlink_to(root / "a" / "a00_0.png")
    os.utime(root / "a" / "a00_0.png", (1, 7))
    assert scan(root)[1][1].stamp.endswith("-7.0")


def test_a_metadata_file_that_leaves_the_root_is_refused(tree: Tree, tmp_path: Path) -> None:
    root = tree({"a": 1})
    (tmp_path / "secret.csv").write_text("path,label\na/a00_0.png,x\n")
    (root / "metadata.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(AuditError, match=r"data.metadata 'metadata.csv' below .* is a link that leaves the root"):
        scan(root)


def test_links_inside_the_root_are_read_and_those_that_leave_it_are_not(tree: Tree, tmp_path: Path) -> None:
    root = tree({"a": 1})
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "s.png").write_bytes(b"secret")
    (root / "a" / "in.png").symlink_to(root / "a" / "a00_0.png")
    (root / "a" / "out.png").symlink_to(outside / "s.png")
    (root / "b").symlink_to(outside)
    adapter, records = scan(root)
    assert [r.id for r in records] == ["a/a00_0.png", "a/in.png"]
    assert [(f.severity, f.kind, f.ids) for f in adapter.findings] == [
        ("quarantine", "symlink", ("a/out.png",)),
        ("stop", "symlink", ("b",)),
    ]
    assert str(outside) in adapter.findings[1].message


def test_unicode_names_have_one_id_and_can_be_read(tree: Tree) -> None:
    root = tree({"a": 1})
    (root / "a" / "e\u0301.png").write_bytes(b"decomposed")
    adapter, records = scan(root)
    assert [r.id for r in records] == ["a/a00_0.png", "a/\u00e9.png"]
    assert adapter.read(records[1]) == b"decomposed"


def test_names_that_differ_only_in_unicode_form_clash(tree: Tree) -> None:
    root = tree({"a": 1})
    for name in ("e\u0301.png", "\u00e9.png"):
        (root / "a" / name).write_bytes(b"x")
    adapter, records = scan(root)
    assert ([r.id for r in records], kinds(adapter)) == (["a/a00_0.png"], [("quarantine", "id_clash")])


@pytest.mark.parametrize(
    ("settings", "text", "message"),
    [
        ({}, "id,label\n1,a\n", "no column 'path' or 'file_name'; there are: id, label"),
        ({"path_column": "pic"}, "path,label\n1,a\n", "no column 'pic'; there are: path, label"),
        (
            {"group_column": "who"},
            "path,label\na/a00_0.png,a\n",
            "data.group_column is 'who', metadata.csv has no such column",
        ),
        ({}, "id,label\n", "no column 'path' or 'file_name'; there are: id, label"),
        ({}, "path,path\n1,a\n", "a column name occurs twice"),
        ({}, "path,label\na,b,c\n", "line 2: 3 values for 2 columns"),
        ({"metadata": "none.csv"}, "path\n", "data.metadata 'none.csv': cannot be read"),
        ({"metadata": None, "label_column": "dx"}, "path\n", "data.label_column is 'dx' but"),
    ],
)
def test_wrong_metadata_names_what_is_there(tree: Tree, settings: dict, text: str, message: str) -> None:
    root = tree({"a": 1})
    (root / "metadata.csv").write_text(text)
    with pytest.raises(AuditError) as caught:
        scan(root, **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"\xff\xfe", "not UTF-8 (byte 0)"), (b"{\n", "line 1"), (b"[1]\n", "line 1: must be a JSON object")],
)
def test_broken_jsonl_names_the_line(tree: Tree, content: bytes, message: str) -> None:
    root = tree({"a": 1})
    (root / "metadata.jsonl").write_bytes(content)
    with pytest.raises(AuditError) as caught:
        scan(root)
    assert message in str(caught.value)


class _Locked(MemoryFileSystem):
    protocol = "locked"
    store: dict = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("locked://", "memory://"))

    def ls(self, path: str, detail: bool = True, **kwargs: object) -> list:
        if path.rstrip("/").endswith("private"):
            raise PermissionError(13, "Permission denied", path)
        return super().ls(path, detail=detail, **kwargs)


def test_a_locked_folder_is_named_and_not_taken_for_empty() -> None:
    fsspec.register_implementation("locked", _Locked, clobber=True)
    fsspec.filesystem("locked").pipe_file("/data/open/a.png", b"x")
    fsspec.filesystem("locked").pipe_file("/data/private/a.png", b"x")
    with pytest.raises(AuditError, match=r"data.root 'locked://data': cannot list /data/private"):
        scan("locked://data")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no such folder"),
        (lambda p: p.write_text("x"), "is a file, not a folder"),
        (lambda p: p.mkdir(), "no image below it (known: .bmp"),
    ],
)
def test_unusable_root_is_named(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "root")
    with pytest.raises(AuditError) as caught:
        scan(tmp_path / "root")
    assert str(tmp_path / "root") in str(caught.value)
    assert message in str(caught.value)


def test_unknown_protocol_is_named() -> None:
    with pytest.raises(AuditError, match=r"data.root 'nosuch://x': cannot be opened"):
        scan("nosuch://x")


def test_tilde_is_the_home_folder(tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree({"a": 1})
    monkeypatch.setenv("HOME", str(tmp_path))
    adapter, records = scan("~/images")
    assert len(adapter.read(records[0])) > 100


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"root": "x", "rot": 1}, "data.folder.rot: unknown key; did you mean 'root'?"),
        ({}, "data.folder.root"),
        ({"root": "x", "group_regex": "p[0-9]+"}, "needs a (...) around the group"),
        ({"root": "x", "group_regex": "("}, "is no regular expression"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure("data", Spec(use="folder", config=settings))
    assert message in str(caught.value)


def test_a_location_is_not_science() -> None:
    assert Folder.Config(root="/a").identity() == Folder.Config(root="/b").identity()
    assert Folder.Config(root="/a").identity() != Folder.Config(root="/a", label_column="dx").identity()
