"""Bad images one by one: what each is called, and what happens to it."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsynth_ray.data._decode import Refused, decode, shrink
from medsynth_ray.data.audit import (
    Finding,
    duplicate_findings,
    gathered,
    group_findings,
    joined_groups,
    record_findings,
    share_findings,
)
from medsynth_ray.data.dataset import audit
from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import ImageRecord
from medsynth_ray.sections import DataConfig, SplitConfig

NOISE = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)


def encoded(image: Image.Image, form: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def picture() -> Image.Image:
    return Image.fromarray(NOISE)


def png(width: int, height: int, bits: int, colour: int, rows: bytes = b"") -> bytes:
    """A PNG that may claim more than it holds: a decompression bomb needs no pixels to be seen."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def frames(form: str) -> bytes:
    more = [Image.fromarray(NOISE[::-1]), Image.fromarray(NOISE[:, ::-1])]
    return encoded(picture(), form, save_all=True, append_images=more)


def rgb16_png() -> bytes:
    """48-bit RGB, which Pillow cannot write but reads as 8-bit without a word."""
    rows = b"".join(b"\0" + row.tobytes() for row in (NOISE.astype(">u2") * 9))
    return png(24, 24, 16, 2, rows)


JPEG = encoded(picture(), "JPEG")
PNG = encoded(picture(), "PNG")
BAD = {
    "zero bytes": ("a.jpg", b"", "unreadable", "0 bytes"),
    "cut off JPEG": ("a.jpg", JPEG[: len(JPEG) * 2 // 3], "unreadable", "damaged or cut off"),
    "cut off PNG": ("a.png", PNG[: len(PNG) * 2 // 3], "unreadable", "damaged or cut off"),
    "garbage": ("a.png", bytes(range(255, 128, -1)) * 4, "unreadable", "damaged, or not an image"),
    "HTML": ("a.jpg", b"\n<!DOCTYPE html><html>404", "not_an_image", "is HTML"),
    "PDF": ("a.jpg", b"%PDF-1.7 \x80", "not_an_image", "is a PDF"),
    "DICOM": ("a.jpg", b"\0" * 128 + b"DICM" + b"\0" * 40, "not_an_image", "is DICOM"),
    "HEIC": ("a.jpg", b"\0\0\0\x18ftypheic\x80\x90", "not_an_image", "is HEIC"),
    "LFS": ("a.png", b"version https://git-lfs.github.com/spec/v1\n", "not_an_image", "a Git LFS pointer"),
    "text": ("a.png", b"not found", "not_an_image", "is plain text"),
    "144 megapixels": ("a.png", png(12_000, 12_000, 8, 0), "too_many_pixels", "12000 x 12000; at most 64000000"),
    "400 megapixels": ("a.png", png(20_000, 20_000, 8, 0), "too_many_pixels", "at most 64000000"),
    "GIF of 3": ("a.gif", frames("GIF"), "several_frames", "3 frames"),
    "TIFF of 3": ("a.tif", frames("TIFF"), "several_frames", "3 frames"),
    "16-bit gray": (
        "a.png",
        encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 9), "PNG"),
        "high_depth",
        "16 bits",
    ),
    "16-bit RGB": ("a.png", rgb16_png(), "high_depth", "16 bits a channel, values 0 to"),
    "cut off 16-bit RGB": ("a.png", png(24, 24, 16, 2, b"\0"), "unreadable", "damaged"),
    "16-bit TIFF": ("a.tif", encoded(Image.fromarray(NOISE[..., 0].astype(np.uint16) * 9), "TIFF"), "high_depth", "16"),
    "float TIFF": (
        "a.tif",
        encoded(Image.fromarray(NOISE[..., 0].astype(np.float32)), "TIFF"),
        "high_depth",
        "32 bits",
    ),
    "float array": ("a", NOISE.astype(np.float32), "high_depth", "float32 array, values"),
    "4 channels": ("a", np.zeros((4, 4, 4), np.uint8), "unreadable", "array of shape (4, 4, 4)"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("case", BAD)
def test_bad_image_is_refused_by_its_name(case: str) -> None:
    name, source, kind, detail = BAD[case]
    with pytest.raises(Refused) as caught:
        decode(source, name)
    assert (caught.value.kind, detail in caught.value.detail) == (kind, True), caught.value.detail


def palette() -> Image.Image:
    return picture().quantize(16)


def transparent() -> Image.Image:
    image = picture().convert("RGBA")
    image.putalpha(0)
    return image


CONVERTED = {
    "PNG called jpg": ("a.jpg", PNG, "content_type", NOISE),
    "palette": ("a.png", encoded(palette(), "PNG"), "palette", np.asarray(palette().convert("RGB"))),
    "alpha 0": ("a.png", encoded(transparent(), "PNG"), "transparency", np.zeros((24, 24), np.uint8)),
    "CMYK": (
        "a.tif",
        encoded(picture().convert("CMYK"), "TIFF"),
        "colour_space",
        np.asarray(picture().convert("CMYK").convert("RGB")),
    ),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_converted_image_is_kept_with_a_remark(case: str) -> None:
    name, source, kind, pixels = CONVERTED[case]
    decoded = decode(source, name)
    assert [remark[0] for remark in decoded.remarks] == [kind]
    assert (np.asarray(decoded.image) == pixels).all()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_lossless_forms_give_the_pixels_without_a_remark(form: str) -> None:
    settings = {"lossless": True} if form == "WEBP" else {}
    decoded = decode(encoded(picture(), form, **settings), f"a.{form.lower()}")
    assert (np.asarray(decoded.image) == NOISE).all()
    assert decoded.remarks == ()


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    wide = picture().crop((0, 0, 24, 12))
    turned = np.asarray(decode(encoded(wide, "PNG", exif=exif), "a.png").image)
    assert turned.shape == (24, 12, 3)
    assert (turned == np.rot90(NOISE[:12], -1)).all()


def test_gray_stored_as_rgb_has_the_content_of_gray() -> None:
    gray = Image.fromarray(NOISE[..., 0])
    one, three = (decode(encoded(gray.convert(mode), "PNG"), "a.png") for mode in ("L", "RGB"))
    assert one.digest == three.digest
    assert three.image.mode == "L"
    assert one.digest != decode(encoded(gray.rotate(90), "PNG"), "a.png").digest


@pytest.mark.parametrize("channels", [1, 3])
def test_shrink_averages_before_it_samples(channels: int) -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    small = shrink(Image.fromarray(stripes), 8, channels)
    assert small.shape == (8, 8, channels)
    assert np.abs(small.astype(int) - 127).max() <= 6  # sampling alone would give 0 or 255


def test_duplicates_keep_the_first_and_conflicts_keep_none() -> None:
    digests = np.array([b"%016d" % i for i in (1, 2, 1, 1, 3, 3, 4)], dtype="V16")
    ids, labels = np.array(list("abcdefg")), np.array(list("xxxxxyy"))
    found = duplicate_findings(ids, labels, digests, np.full(7, ""))
    assert [(f.kind, f.severity, f.ids) for f in found] == [
        ("duplicate", "quarantine", ("c", "d")),
        ("conflicting_labels", "quarantine", ("e", "f")),
    ]
    assert found[0].message == (
        "2 images: exact copies, the first of each is kept: c (same image as a), d (same image as a)"
    )


def test_copies_across_given_splits_stop() -> None:
    digests = np.array([b"%016d" % i for i in (1, 1, 2)], dtype="V16")
    found = duplicate_findings(np.array(list("abc")), np.full(3, "x"), digests, np.array(["train", "test", "test"]))
    assert [(f.kind, f.severity, f.ids) for f in found[1:]] == [("duplicate_across_splits", "stop", ("a", "b"))]


def test_groups_that_share_an_image_are_joined_through_chains() -> None:
    groups = np.array(["p1", "p2", "p2", "p3", "p4", "p9", "p8"])
    digests = np.array([b"%016d" % i for i in (1, 1, 2, 2, 3, 4, 4)], dtype="V16")
    assert joined_groups(groups, digests).tolist() == ["p1", "p1", "p1", "p1", "p4", "p8", "p8"]


def test_groups_of_several_labels_are_counted() -> None:
    found = group_findings(np.array(list("xyxx")), np.array(["p", "p", "q", "q"]))
    assert (found[0].severity, found[0].ids) == ("info", ("p",))
    assert "1 of 2 groups hold images of several classes; they stay whole: p (x and y)" in found[0].message


@pytest.mark.parametrize(
    ("groups", "severity", "message"),
    [
        ("required", "stop", "2 images: no group (patient, lesion or volume) to keep whole"),
        ("none", "warn", "images of one patient may be in train and test; 1 images do have a group, which is not used"),
    ],
)
def test_missing_groups(groups: str, severity: str, message: str) -> None:
    records = [ImageRecord("a", "x", "p"), ImageRecord("b", "x"), ImageRecord("c", "x")]
    found = record_findings(records, groups)
    assert [(f.kind, f.severity) for f in found] == [("no_groups", severity)]
    assert message in found[0].message


def test_missing_labels_and_case_clashes() -> None:
    records = [ImageRecord("A.PNG", "x", "p"), ImageRecord("a.png", None, "p")]
    assert [(f.kind, f.severity, f.ids) for f in record_findings(records, "required")] == [
        ("no_label", "quarantine", ("a.png",)),
        ("case_clash", "warn", ("A.PNG", "a.png")),
    ]


@pytest.mark.parametrize(("max_share", "stops"), [(0.2, False), (0.19, True)])
def test_quarantine_share_counts_rows_without_a_file(max_share: float, stops: bool) -> None:
    findings = gathered("row_without_file", "quarantine", "x", {"gone": ""}) + gathered(
        "duplicate", "quarantine", "x", {"b": ""}
    )
    found = share_findings(findings, np.array([*"abcdefghi"]), max_share)
    assert [f.severity for f in found] == ["stop"] * stops
    assert not stops or "2 of 10 images (20.0%) cannot be used (duplicate 1, row_without_file 1)" in found[0].message


def test_messages_name_five_and_count_the_rest_on_one_line() -> None:
    found = gathered("x", "warn", "odd", {f"{i}\n\u202e.png": "why" for i in range(7)})
    assert found[0].message == (
        "7 images: odd: " + ", ".join(rf"{i}\n\u202e.png (why)" for i in range(5)) + " and 2 more"
    )
    assert len(found[0].ids) == 7
    assert Finding.from_json(found[0].to_json()) == found[0]


def test_audit_returns_every_finding_and_raises_none(tree: Callable[..., Path], by_person: dict[str, str]) -> None:
    root = tree({"a": 30, "b": 30, "rare": 4})
    (root / "a" / "a00_0.png").write_bytes(b"")
    (root / "b" / "b14_1.png").write_bytes((root / "b" / "b00_0.png").read_bytes())
    findings, summary = audit(DataConfig(root=str(root), resolution=16, **by_person), SplitConfig())
    assert [(f.severity, f.kind) for f in findings] == [
        ("quarantine", "unreadable"),
        ("quarantine", "duplicate"),
        ("warn", "near_duplicate"),
        ("stop", "small_class"),
        ("stop", "split"),
    ]
    assert "class 'rare' has 4 usable images, 12 are needed" in findings[3].message
    assert (summary["images"], summary["usable"], summary["groups"]) == (64, 62, 32 - 1)
    assert summary["classes"] == {"a": 29, "b": 29, "rare": 4}
    assert summary["findings"] == {"stop": 2, "quarantine": 2, "warn": 1, "info": 0}
    assert summary["splits"] is None


@pytest.mark.parametrize("window", [None, (0.0, 9.0)])
def test_deep_colour_without_opencv(window: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    if window is None:
        with pytest.raises(Refused, match="more than 8 bits a channel, in colour; set data.window"):
            decode(rgb16_png(), "a.png")
        return
    with pytest.raises(ConfigError, match=r"needs OpenCV: pip install 'medsynth-ray\[medical\]'"):
        decode(rgb16_png(), "a.png", window)  # type: ignore[arg-type]


def test_long_names_are_shown_by_their_ends() -> None:
    found = gathered("x", "warn", "odd", {"a" * 200 + ".png": ""})
    assert found[0].message == f"1 image: odd: {'a' * 50}[...]{'a' * 46}.png"
