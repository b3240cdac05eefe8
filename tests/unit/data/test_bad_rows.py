"""Each kind of bad input that a user's folder can hold, one by one and then all in one folder."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from medsynth_ray.data._decode import Refused, decode
from medsynth_ray.data.adapters.folder import Folder
from medsynth_ray.data.audit import Finding
from medsynth_ray.data.dataset import audit, changed, prepare
from medsynth_ray.errors import AuditError, ConfigError
from medsynth_ray.sections import DataConfig, SplitConfig

PERSON = {"group_regex": r"(p\d+)"}
ORIENTATION = 0x0112


def scene(seed: int, size: int = 96) -> np.ndarray:
    """uint8 (size, size, 3) of coarse and fine structure; other seeds have nothing in common with it."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(Image.fromarray(rng.normal(size=(n, n)).astype(np.float32)).resize((size, size))) for n in (8, 32)
    ]
    gray = np.clip(128 + 40 * layers[0] + 20 * layers[1], 20, 235)
    return np.stack([gray, gray * 0.8, gray * 0.6], axis=2).astype(np.uint8)


def save(path: Path, image: np.ndarray | Image.Image, **settings: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **settings)
    return path


def encoded(image: np.ndarray | Image.Image, form: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **settings)
    return buffer.getvalue()


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Two classes of fifteen persons each, two images a person."""
    root = tmp_path / "images"
    for i in range(60):
        save(root / "ab"[i % 2] / f"p{i // 4 * 2 + i % 2:02d}_{i}.png", scene(i))
    return root


def looked(root: Path, **settings: Any) -> list[Finding]:
    return audit(DataConfig(root=str(root), resolution=16, **{**PERSON, **settings}), SplitConfig())[0]


def only(findings: list[Finding], kind: str) -> Finding:
    found = [f for f in findings if f.kind == kind]
    assert len(found) == 1, [f.message for f in findings]
    return found[0]


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


HTML = b"<!DOCTYPE html><html><body>404 not found</body></html>"
FILES = {
    "row_01_zero_bytes": ("z.jpg", b"", "unreadable", "0 bytes"),
    "row_02_truncated": ("t.jpg", encoded(scene(1), "JPEG")[:1500], "unreadable", "damaged or cut off"),
    "row_03_html_saved_as_jpg": ("h.jpg", HTML, "not_an_image", "is HTML (a web page, perhaps an error page)"),
    "row_09_animated": (
        "g.gif",
        encoded(scene(1), "GIF", save_all=True, append_images=[Image.fromarray(scene(2))]),
        "several_frames",
        "2 frames; save each as its own file",
    ),
    "row_10_huge": ("n.png", png_header(20_000, 20_000), "too_many_pixels", "at most 64000000"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("row", FILES)
def test_bad_file_is_quarantined_by_its_name(good: Path, row: str) -> None:
    name, data, kind, detail = FILES[row]
    (good / "a" / f"p90_{name}").write_bytes(data)
    found = only(looked(good), kind)
    assert (found.severity, found.ids) == ("quarantine", (f"a/p90_{name}",))
    assert detail in found.message


def test_row_01_row_02_too_large_a_share_of_bad_files_stops(good: Path) -> None:
    for i in range(4):
        (good / "a" / f"p9{i}.jpg").write_bytes(b"")
    assert "4 of 64 images (6.2%) cannot be used (unreadable 4)" in only(looked(good), "quarantine_share").message


DEEP = {
    "png": lambda raw: encoded(raw, "PNG"),
    "tif": lambda raw: encoded(raw, "TIFF"),
    "jp2": lambda raw: encoded(raw, "JPEG2000", irreversible=False),
    "pgm": lambda raw: b"P5 32 32 65535\n" + raw.astype(">u2").tobytes(),
}


@pytest.mark.parametrize("suffix", DEEP)
def test_row_04_sixteen_bit_is_refused_with_its_range_and_read_through_a_window(suffix: str) -> None:
    raw = np.linspace(100, 4000, 32 * 32).reshape(32, 32).round().astype(np.uint16)
    data = DEEP[suffix](raw)
    with pytest.raises(
        Refused, match=r"16 bits a channel, values 100 to 4000; .* set data.window: \[low, high\] or full"
    ):
        decode(data, f"a.{suffix}")
    decoded = decode(data, f"a.{suffix}", (1000.0, 3000.0))
    expected = np.rint(np.clip((raw.astype(float) - 1000) / 2000, 0, 1) * 255)
    assert (np.asarray(decoded.image) == expected).all()
    share = ((raw < 1000) | (raw > 3000)).mean()
    assert decoded.remarks == (("window", f"{share:.1%} of the pixels outside [1000, 3000]"),)
    whole = decode(data, f"a.{suffix}", "full")
    assert (np.asarray(whole.image) == np.rint(raw / 65535 * 255)).all()
    assert "0.0% of the pixels outside [0, 65535]" in whole.remarks[0][1]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_row_04_sixteen_bit_colour_is_not_read_as_eight_bit(suffix: str) -> None:
    cv2 = pytest.importorskip("cv2")
    raw = np.random.default_rng(0).integers(300, 5000, (24, 20, 3)).astype(np.uint16)
    data = cv2.imencode(suffix, raw[..., ::-1])[1].tobytes()
    with pytest.raises(Refused, match=rf"16 bits a channel, values {raw.min()} to {raw.max()}"):
        decode(data, f"a{suffix}")
    shown = np.asarray(decode(data, f"a{suffix}", (0.0, 5000.0)).image)
    assert (shown == np.rint(raw / 5000 * 255)).all()


@pytest.mark.parametrize("window", [(1000.0, 3000.0), "full"])
def test_row_04_sixteen_bit_tiff_that_stores_white_as_zero_is_no_negative(window: Any) -> None:
    raw = np.linspace(100, 4000, 32 * 32).reshape(32, 32).round().astype(np.uint16)
    black_is_zero = encoded(raw, "TIFF")
    tags = [struct.pack("<HHIH", 262, 3, 1, photometric) for photometric in (1, 0)]
    assert black_is_zero.count(tags[0]) == 1
    plain, turned_round = (decode(data, "a.tif", window) for data in (black_is_zero, black_is_zero.replace(*tags)))
    assert (np.asarray(turned_round.image) == 255 - np.asarray(plain.image)).all()


def test_row_04_a_sweep_can_say_the_window(good: Path) -> None:
    save(good / "a" / "p90.png", np.linspace(0, 3999, 4096).reshape(64, 64).astype(np.uint16))
    refused = only(looked(good), "high_depth")
    assert (refused.severity, refused.ids) == ("quarantine", ("a/p90.png",))
    assert "values 0 to 3999" in refused.message
    read = only(looked(good, window=(0, 2000)), "window")
    assert (read.severity, read.ids) == ("info", ("a/p90.png",))
    assert "50.0% of the pixels outside [0, 2000]" in read.message


def test_row_04_a_window_opens_upwards(good: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.window: low must be below high, got \[5, 5\]"):
        looked(good, window=(5, 5))


@pytest.mark.parametrize("scale", [-1.0, 1.0])
def test_row_05_a_float_portable_map_is_refused(scale: float) -> None:
    raw = np.linspace(-0.5, 2.0, 64, dtype="<f4" if scale < 0 else ">f4")
    with pytest.raises(Refused, match=r"32 bits a channel, values -0.5 to 2; "):
        decode(f"Pf 8 8 {scale}\n".encode() + raw.tobytes(), "a.ppm")


@pytest.mark.parametrize("source", ["file", "array"])
def test_row_05_float_needs_explicit_limits(source: str) -> None:
    raw = np.linspace(-0.5, 2.0, 32 * 32, dtype=np.float32).reshape(32, 32)
    data: Any = raw if source == "array" else encoded(raw, "TIFF")
    for window in (None, "full"):
        with pytest.raises(Refused, match=r"values -0.5 to 2; 8 bits are allowed, so set data.window: \[low, high\]$"):
            decode(data, "a.tif", window)  # type: ignore[arg-type]
    shown = np.asarray(decode(data, "a.tif", (0.0, 1.0)).image)
    assert (shown == np.rint(np.clip(raw.astype(float), 0, 1) * 255)).all()


def test_row_05_nan_is_refused_whatever_the_window() -> None:
    with pytest.raises(Refused, match="holds NaN or infinite values"):
        decode(np.array([[0.0, np.nan]], dtype=np.float32), "a", (0.0, 1.0))


def cmyk_profile() -> bytes:
    """An ICC profile of a press that prints black only: K = 0 is white, K = 1 black, other inks leave no trace."""
    linear = bytes(range(256))
    grid = b"".join(bytes([255 if k == 0 else 0, 128, 128]) for _ in range(8) for k in (0, 1))
    matrix = struct.pack(">9i", *(65536 * v for v in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + linear * 4 + grid + linear * 3
    description = b"desc" + bytes(4) + struct.pack(">I", 11) + b"black only\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, body, start = b"", b"", 128 + 4 + 3 * 12
    for name, data in ((b"desc", description), (b"wtpt", white), (b"A2B0", table)):
        tags += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", 3) + tags + body


def test_row_06_cmyk_goes_through_its_profile() -> None:
    cyan, black = (Image.new("CMYK", (8, 8), ink) for ink in ((255, 0, 0, 0), (0, 0, 0, 255)))
    profile = cmyk_profile()
    for image, level in ((cyan, 255), (black, 0)):
        decoded = decode(encoded(image, "TIFF", icc_profile=profile), "a.tif")
        assert np.abs(np.asarray(decoded.image).astype(int) - level).max() <= 1
        assert decoded.remarks == (("colour_profile", "CMYK of profile 'black only' converted to sRGB"),)


@pytest.mark.parametrize(
    ("profile", "said"),
    [(b"", "CMYK taken without a colour profile (it has none)"), (b"junk", "its own cannot be used")],
)
def test_row_06_cmyk_without_a_profile_is_converted_with_a_warning(good: Path, profile: bytes, said: str) -> None:
    inks = Image.fromarray(scene(90)).convert("CMYK")
    save(good / "a" / "p90.tif", inks, icc_profile=profile)
    found = only(looked(good), "colour_space")
    assert (found.severity, found.ids) == ("warn", ("a/p90.tif",))
    assert said in found.message
    shown = np.asarray(decode((good / "a" / "p90.tif").read_bytes(), "p90.tif").image)
    assert (shown == np.asarray(inks.convert("RGB"))).all()


def test_row_06_rgb_of_another_profile_becomes_srgb() -> None:
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, blue = plain.index(b"rXYZ"), plain.index(b"bXYZ")
    other = bytearray(plain)
    other[red : red + 4], other[blue : blue + 4] = b"bXYZ", b"rXYZ"
    swapped = bytes(other).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    picture = Image.new("RGB", (8, 8), (255, 0, 0))
    decoded = decode(encoded(picture, "PNG", icc_profile=swapped), "a.png")
    assert decoded.remarks[0][0] == "colour_profile"
    assert np.abs(np.asarray(decoded.image)[0, 0].astype(int) - [0, 0, 255]).max() <= 2
    same = decode(encoded(picture, "PNG", icc_profile=plain), "a.png")
    assert same.remarks == ()
    assert (np.asarray(same.image)[0, 0] == [255, 0, 0]).all()


def half_hidden(mode: str) -> Image.Image:
    image = Image.fromarray(scene(90)).convert(mode[:-1] if mode != "PA" else "P")
    alpha = Image.fromarray(np.repeat([[0, 255]], 48, axis=1).repeat(96, axis=0).astype(np.uint8))
    if mode == "PA":
        image.info["transparency"] = bytes([0, *[255] * 255])
        return image
    image.putalpha(alpha)
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_row_07_what_alpha_hides_stays_hidden(mode: str) -> None:
    image = half_hidden(mode)
    decoded = decode(encoded(image, "PNG"), "a.png")
    assert decoded.remarks == (("transparency", "alpha channel laid on black"),)
    shown = np.asarray(decoded.image)
    assert (shown[:, :48] == 0).all()
    assert (shown[:, 48:] == np.asarray(image.convert(mode[:-1]))[:, 48:]).all()


def test_row_07_palette_with_alpha_is_laid_on_black_with_a_warning(good: Path) -> None:
    save(good / "a" / "p90.png", half_hidden("PA"), transparency=bytes([0, *[255] * 255]))
    findings = looked(good)
    assert {only(findings, kind).severity for kind in ("palette", "transparency")} == {"warn"}
    assert "laid on black" in only(findings, "transparency").message


@pytest.mark.parametrize(
    ("orientation", "turn"), [(2, Image.Transpose.FLIP_LEFT_RIGHT), (6, Image.Transpose.ROTATE_270)]
)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_row_08_exif_rotation_is_applied(orientation: int, turn: Image.Transpose, form: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    wide = Image.fromarray(scene(1)[:48])
    stored = encoded(wide, form, exif=exif)
    decoded = decode(stored, f"a.{form.lower()}")
    plain = np.asarray(decode(encoded(wide, form), f"a.{form.lower()}").image.transpose(turn))
    assert (np.asarray(decoded.image) == plain).all()
    assert decoded.remarks == (("rotated", "turned upright as its EXIF tag says"),)


def test_row_08_sixteen_bit_is_turned_too() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    raw = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)
    decoded = decode(encoded(raw, "PNG", exif=exif), "a.png", (0.0, 959.0))
    assert (np.asarray(decoded.image) == np.rot90(np.rint(raw / 959 * 255), -1)).all()


TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x),
}


def colour_tiff(raw: np.ndarray, orientation: int, order: str, *, big: bool) -> bytes:
    """An uncompressed TIFF (or BigTIFF) of uint16 (H, W, 3), which Pillow cannot write."""
    height, width = raw.shape[:2]
    wide, entry, head = ("Q", "HHQ", 16) if big else ("I", "HHI", 8)
    num_tags, bits = 11, struct.pack(f"{order}3H", 16, 16, 16)
    after = head + struct.calcsize("Q" if big else "H") + num_tags * (20 if big else 12) + (8 if big else 4)
    pixels = raw.astype(f"{order}u2").tobytes()
    tags = {
        256: width, 257: height, 258: bits, 259: 1, 262: 2, 273: after + 8, 274: orientation, 277: 3, 278: height,
        279: len(pixels), 284: 1,
    }  # fmt: skip
    start = (b"II" if order == "<" else b"MM") + struct.pack(
        f"{order}HHHQ" if big else f"{order}HI", *((43, 8, 0, 16) if big else (42, 8))
    )
    body = struct.pack(order + ("Q" if big else "H"), num_tags)
    for tag, value in tags.items():
        long = tag in (273, 279)
        body += struct.pack(order + entry, tag, 4 if long else 3, 3 if tag == 258 else 1)
        if isinstance(value, bytes):
            body += value.ljust(8, b"\0") if big else struct.pack(order + wide, after)
        else:
            body += struct.pack(order + ("I" if long else "H"), value).ljust(8 if big else 4, b"\0")
    return start + body + bytes(8 if big else 4) + bits.ljust(8, b"\0") + pixels


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_row_08_sixteen_bit_colour_is_turned_once(orientation: int, order: str, big: bool) -> None:
    pytest.importorskip("cv2")
    raw = np.random.default_rng(0).integers(0, 5001, (24, 20, 3)).astype(np.uint16)
    raw[0, 0], raw[0, 1] = 0, 5000
    decoded = decode(colour_tiff(raw, orientation, order, big=big), "a.tif", (0.0, 5000.0))
    assert (np.asarray(decoded.image) == np.rint(TURNED[orientation](raw) / 5000 * 255)).all()
    assert [kind for kind, _ in decoded.remarks] == ["rotated"] * (orientation > 1) + ["window"]


@pytest.mark.parametrize("orientation", TURNED)
def test_row_08_sixteen_bit_gray_tiff_is_turned_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    raw = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)
    decoded = decode(encoded(raw, "TIFF", exif=exif), "a.tif", (0.0, 959.0))
    assert (np.asarray(decoded.image) == np.rint(TURNED[orientation](raw) / 959 * 255)).all()


def test_row_11_links_out_of_the_root_are_not_followed(good: Path, tmp_path: Path) -> None:
    (good / "a" / "p90.png").symlink_to(save(tmp_path / "secret.png", scene(90)))
    found = only(looked(good), "symlink")
    assert (found.severity, found.ids) == ("quarantine", ("a/p90.png",))


NAMES = {
    "decomposed": ("p90_e\u0301.png", "p90_\u00e9.png", "p90_\u00e9.png"),
    "right to left": ("p90_\u05d0\u202egnp.png", "p90_\u05d0\u202egnp.png", r"p90_\u05d0\u202egnp.png"),
    "newline": ("p90_a\nb.png", "p90_a\nb.png", r"p90_a\nb.png"),
    "very long": (f"p90_{'x' * 200}.png", f"p90_{'x' * 200}.png", "xxx[...]xxx"),
}


@pytest.mark.parametrize("case", NAMES)
def test_row_12_odd_names_work_and_are_escaped(good: Path, case: str) -> None:
    name, identity, shown = NAMES[case]
    save(good / "a" / name, Image.fromarray(scene(90)).convert("P"))
    found = only(looked(good), "palette")
    assert found.ids == (f"a/{identity}",)
    assert shown in found.message
    assert found.message.isprintable()
    assert (
        prepare(DataConfig(root=str(good), resolution=16, **PERSON), SplitConfig())
        .images.ids.tolist()
        .count(f"a/{identity}")
    )


def test_row_13_an_empty_class_is_named(good: Path) -> None:
    (good / "none_yet").mkdir()
    assert only(looked(good), "empty_class").ids == ("none_yet",)


def test_row_14_a_class_of_one_image_stops_and_says_what_to_do(good: Path) -> None:
    save(good / "rare" / "p90.png", scene(90))
    found = only(looked(good), "small_class")
    assert found.severity == "stop"
    assert "class 'rare' has 1 usable images, 12 are needed: add images, merge it with another" in found.message


def test_row_15_one_class_stops(good: Path, tmp_path: Path) -> None:
    (good / "b").rename(tmp_path / "elsewhere")
    assert "two classes or more are needed, found 1: a" in only(looked(good), "one_class").message


def with_splits(root: Path, tmp_path: Path) -> Path:
    """The folder with a given split, persons apart: every third person is in test."""
    for file in sorted(root.rglob("*.png")):
        split = "test" if int(file.name[1:3]) % 3 == 0 else "train"
        target = tmp_path / "given" / split / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    return tmp_path / "given"


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "cropped": lambda image: image.crop((3, 2, 94, 95)),
    "resized": lambda image: image.resize((150, 140)),
    "darker": lambda image: image.point(lambda level: int(level * 0.8)),
}


def test_row_16_the_same_bytes_in_two_given_splits_stop(good: Path, tmp_path: Path) -> None:
    root = with_splits(good, tmp_path)
    assert not [f for f in looked(root) if f.severity == "stop"]
    (root / "test" / "a" / "p90.png").write_bytes((root / "train" / "a" / "p02_4.png").read_bytes())
    found = only(looked(root), "duplicate_across_splits")
    assert (found.severity, found.ids) == ("stop", ("test/a/p90.png", "train/a/p02_4.png"))


@pytest.mark.parametrize("alteration", COPIES)
def test_row_16_a_near_duplicate_in_two_given_splits_stops(good: Path, tmp_path: Path, alteration: str) -> None:
    root = with_splits(good, tmp_path)
    image = Image.open(root / "train" / "a" / "p02_4.png")
    save(root / "test" / "a" / "p90.jpg", COPIES[alteration](image), quality=80)
    found = only(looked(root), "near_duplicate_across_splits")
    assert (found.severity, found.ids) == ("stop", ("test/a/p90.jpg", "train/a/p02_4.png"))
    assert "near duplicates in two given splits" in found.message
    assert not [f for f in looked(root, near_duplicates="ignore") if f.severity == "stop"]


def three_copies(image: Image.Image, folder: Path, first: int) -> list[str]:
    """Of one image, at three qualities; their ids."""
    files = [save(folder / f"p9{first + i}.jpg", image, quality=q) for i, q in enumerate((90, 60, 30))]
    return ["/".join(file.parts[-3:]) for file in files]


def test_row_16_three_copies_in_each_of_two_given_splits_stop(good: Path, tmp_path: Path) -> None:
    root = with_splits(good, tmp_path)
    image = Image.fromarray(scene(90))
    ids = three_copies(image, root / "train" / "a", 0) + three_copies(
        image.crop((5, 5, 96, 96)), root / "test" / "a", 3
    )
    found = only(looked(root), "near_duplicate_across_splits")
    assert (found.severity, set(found.ids)) == ("stop", set(ids))


@pytest.mark.parametrize("alteration", COPIES)
def test_row_16_near_duplicates_are_kept_together_when_we_split(good: Path, alteration: str) -> None:
    save(good / "a" / "p90.jpg", COPIES[alteration](Image.open(good / "a" / "p02_4.png")), quality=80)
    data = prepare(DataConfig(root=str(good), resolution=16, **PERSON), SplitConfig())
    rows = {row["id"]: row for row in data.table}
    assert rows["a/p90.jpg"]["group"] == rows["a/p02_4.png"]["group"] == "p02"
    found = only(list(data.findings), "near_duplicate")
    assert (found.severity, found.ids) == ("warn", ("a/p02_4.png", "a/p90.jpg"))
    assert set(data.thumbnails) >= {"a/p02_4.png", "a/p90.jpg"}


def test_row_17_a_person_in_two_given_splits_stops(good: Path, tmp_path: Path) -> None:
    root = with_splits(good, tmp_path)
    save(root / "test" / "a" / "p02_99.png", scene(99))
    found = only(looked(root), "split")
    assert "1 group(s) are torn by the given split, such as 'p02' (test and train)" in found.message


def test_row_17_missing_groups_stop_or_are_declared(good: Path) -> None:
    save(good / "a" / "nobody.png", scene(90))
    assert only(looked(good), "no_groups").ids == ("a/nobody.png",)
    assert only(looked(good), "no_groups").severity == "stop"
    assert only(looked(good, groups="none"), "no_groups").severity == "warn"


def test_row_18_one_image_under_two_labels_is_left_out(good: Path) -> None:
    (good / "b" / "p90.png").write_bytes((good / "a" / "p02_4.png").read_bytes())
    found = only(looked(good), "conflicting_labels")
    assert (found.severity, found.ids) == ("quarantine", ("a/p02_4.png", "b/p90.png"))


def test_row_18_near_duplicates_under_two_labels_are_listed(good: Path) -> None:
    save(good / "b" / "p90.png", COPIES["mirrored"](Image.open(good / "a" / "p02_4.png")))
    found = only(looked(good), "near_duplicate_labels")
    assert (found.severity, found.ids) == ("warn", ("a/p02_4.png", "b/p90.png"))
    assert "a/p02_4.png (a) ~ b/p90.png (b) (mirrored left-right, 1.00)" in found.message


def locked(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The file exists but a read of it fails, as on a stale network mount; root may read anything else."""
    read = Folder.read

    def refuse(self: Folder, record: Any) -> bytes:
        if record.id == name:
            raise PermissionError(13, "Permission denied", record.id)
        return read(self, record)

    monkeypatch.setattr(Folder, "read", refuse)


def test_row_19_a_file_that_cannot_be_read_is_named(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked(monkeypatch, "a/p02_4.png")
    found = only(looked(good), "unreadable")
    assert (found.severity, found.ids) == ("quarantine", ("a/p02_4.png",))
    assert "a/p02_4.png (Permission denied)" in found.message


def test_row_20_names_that_differ_in_case_and_hidden_files_are_shown(good: Path) -> None:
    for name, seed in (("P90.PNG", 90), ("p90.png", 91), (".hidden.png", 92)):
        save(good / "a" / name, scene(seed), format="PNG")
    (good / "a" / "Thumbs.db").write_bytes(b"x")
    findings = looked(good, group_regex=r"(?i)(p\d+)")
    assert only(findings, "case_clash").ids == ("a/P90.PNG", "a/p90.png")
    ignored = only(findings, "ignored_files")
    assert (ignored.severity, ignored.ids) == ("info", ("a/.hidden.png", "a/Thumbs.db"))


def test_row_21_what_changed_since_the_data_were_frozen_is_named(good: Path) -> None:
    config = DataConfig(root=str(good), resolution=16, **PERSON)
    data = prepare(config, SplitConfig())
    assert changed(config, data) == {"added": [], "removed": [], "changed": []}
    save(good / "a" / "p90.png", scene(90))
    (good / "a" / "p00_0.png").unlink()
    os.utime(good / "b" / "p01_1.png", (1, 1))
    assert changed(config, data) == {"added": ["a/p90.png"], "removed": ["a/p00_0.png"], "changed": ["b/p01_1.png"]}


def test_row_21_a_file_that_changes_while_it_is_read_is_set_aside(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Folder.read

    def rewrite(self: Folder, record: Any) -> bytes:
        data = read(self, record)
        if record.id == "a/p00_0.png":
            save(good / record.id, scene(90))
            os.utime(good / record.id, (1, 1))
        return data

    monkeypatch.setattr(Folder, "read", rewrite)
    found = only(looked(good), "changed")
    assert (found.severity, found.ids) == ("quarantine", ("a/p00_0.png",))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_all_rows_in_one_folder(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bad row that one folder can hold (a folder cannot be of one class, row 15, and of two), all named."""
    root = with_splits(good, tmp_path)
    train, test = root / "train" / "a", root / "test" / "a"
    for number, (name, data, _, _) in enumerate(FILES.values()):
        (train / f"p7{number}_{name}").write_bytes(data)
    save(train / "p80.png", np.arange(4096, dtype=np.uint16).reshape(64, 64))
    save(train / "p81.tif", np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64))
    save(train / "p82.tif", Image.fromarray(scene(182)).convert("CMYK"))
    save(train / "p83.png", half_hidden("PA"), transparency=bytes([0, *[255] * 255]))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    save(train / "p84.png", scene(184)[:48], exif=exif)
    (train / "p85.png").symlink_to(save(tmp_path / "secret.png", scene(185)))
    save(train / f"p86_\u05d0\u202e\n{'x' * 150}.png", Image.fromarray(scene(186)).convert("P"))
    (root / "train" / "none_yet").mkdir()
    save(root / "train" / "rare" / "p87.png", scene(187))
    (test / "p88.png").write_bytes((train / "p02_4.png").read_bytes())
    save(test / "p89.jpg", COPIES["mirrored"](Image.open(train / "p04_8.png")))
    save(test / "p02_99.png", scene(199))
    save(train / "nobody.png", scene(200))
    (root / "train" / "b" / "p95.png").write_bytes((train / "p08_16.png").read_bytes())
    locked(monkeypatch, "train/a/p10_20.png")
    save(train / "P96.PNG", scene(196), format="PNG")
    save(train / "p96.png", scene(197))
    save(train / ".hidden.png", scene(198))

    findings, summary = audit(DataConfig(root=str(root), resolution=16, **PERSON), SplitConfig())
    named = {name: {f.kind for f in findings if name in f.ids} for f in findings for name in f.ids}
    expected = {
        "train/a/p70_z.jpg": "unreadable", "train/a/p71_t.jpg": "unreadable", "train/a/p72_h.jpg": "not_an_image",
        "train/a/p73_g.gif": "several_frames", "train/a/p74_n.png": "too_many_pixels",
        "train/a/p80.png": "high_depth", "train/a/p81.tif": "high_depth", "train/a/p82.tif": "colour_space",
        "train/a/p83.png": "transparency", "train/a/p84.png": "rotated", "train/a/p85.png": "symlink",
        f"train/a/p86_\u05d0\u202e\n{'x' * 150}.png": "palette", "train/none_yet": "empty_class",
        "test/a/p88.png": "duplicate_across_splits", "test/a/p89.jpg": "near_duplicate_across_splits",
        "p02": "split", "train/a/nobody.png": "no_groups", "train/b/p95.png": "conflicting_labels",
        "train/a/p10_20.png": "unreadable", "train/a/P96.PNG": "case_clash", "train/a/.hidden.png": "ignored_files",
    }  # fmt: skip
    assert {name: kind for name, kind in expected.items() if kind not in named.get(name, ())} == {}
    assert "class 'rare' has 1 usable images" in only(findings, "small_class").message
    assert "cannot be used" in only(findings, "quarantine_share").message
    assert all(f.message.isprintable() for f in findings)
    assert summary["findings"]["stop"] == sum(f.severity == "stop" for f in findings) >= 6
    with pytest.raises(AuditError, match="the data cannot be used as they are"):
        prepare(DataConfig(root=str(root), resolution=16, **PERSON), SplitConfig())
