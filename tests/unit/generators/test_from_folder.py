"""Ready-made images: what is read, in which order, and what is refused."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from medsynth_ray.errors import AuditError, ConfigError
from medsynth_ray.generators.from_folder import FromFolder
from medsynth_ray.protocols import Draw, Files
from medsynth_ray.testing import LocalRuntime, toy_images


def write(path: Path, value: int = 100, *, mode: str = "RGB", size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "I;16") else (value,) * len(mode)).save(path)


def fitted(root: object, *, channels: int = 3) -> FromFolder:
    generator = FromFolder(FromFolder.Config(root=str(root)))
    generator.fit(toy_images(channels=channels), seed=0, runtime=LocalRuntime())
    return generator


def drawn(generator: FromFolder, label: int, num: int) -> np.ndarray:
    draw = Draw(np.full(num, label), np.arange(num), np.arange(num, dtype=np.uint64))
    return np.concatenate([s.images for s in generator.sample(draw, sources=None, runtime=LocalRuntime())])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(6):
        write(tmp_path / "class_0" / f"{i}.png", 40 * i)
    write(tmp_path / "class_1" / "deep" / "a.jpg", 90)
    (tmp_path / "class_0" / "notes.txt").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    write(tmp_path / ".cache" / "x.png")
    return tmp_path


def test_capacity_is_the_number_of_images(root: Path) -> None:
    generator = fitted(root)
    assert [generator.capacity(label) for label in (0, 1)] == [6, 1]
    assert generator.fitted_on_unknown


def test_every_image_is_drawn_once(root: Path) -> None:
    assert sorted(drawn(fitted(root), 0, 6)[:, 0, 0, 0].tolist()) == [0, 40, 80, 120, 160, 200]


def test_order_is_that_of_the_names_whatever_else_is_there(root: Path, tmp_path: Path) -> None:
    before = drawn(fitted(root), 0, 6)[:, 0, 0, 0].tolist()
    (root / "class_0" / "3.png").unlink()
    assert drawn(fitted(root), 0, 5)[:, 0, 0, 0].tolist() == [value for value in before if value != 120]


def test_loaded_generator_keeps_the_listing(root: Path, tmp_path: Path) -> None:
    fitted(root).save(tmp_path / "saved")
    write(root / "class_0" / "later.png")
    assert FromFolder.load(tmp_path / "saved").capacity(0) == 6


def test_url_is_read_through_fsspec(root: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(root / "class_0"), "/synthetic/class_0", recursive=True)
    try:
        assert np.array_equal(drawn(fitted("memory://synthetic"), 0, 6), drawn(fitted(root), 0, 6))
    finally:
        memory.rm("/synthetic", recursive=True)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:8] = 200
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    (tmp_path / "class_0").mkdir()
    Image.fromarray(pixels).save(tmp_path / "class_0" / "a.png", exif=exif)
    assert drawn(fitted(tmp_path), 0, 1)[0, :, 0, 0].tolist() == [0] * 8 + [200] * 8


@pytest.mark.parametrize(("mode", "channels"), [("L", 3), ("RGB", 1), ("RGBA", 3), ("LA", 1)])
def test_channels_and_size_become_those_of_the_real_images(tmp_path: Path, mode: str, channels: int) -> None:
    write(tmp_path / "class_0" / "a.png", 77, mode=mode, size=(40, 20))
    images = drawn(fitted(tmp_path, channels=channels), 0, 1)
    assert images.shape == (1, 16, 16, channels)
    assert np.unique(images).tolist() == [77]


def test_folder_that_is_no_class_is_named(root: Path) -> None:
    write(root / "clas_1" / "a.png")
    with pytest.raises(ConfigError, match=r"folder 'clas_1' is no class of the data \(classes: class_0, class_1\)"):
        fitted(root)


@pytest.mark.parametrize("place", [".", "absent"])
def test_folder_without_images_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigError, match="holds no image; expected root/<class>/<image>"):
        fitted(tmp_path / place)


def png_of(mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (16, 16), 4000).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not a png", "cannot identify"), (png_of("I;16")[:60], "a.png as an 8-bit"), (png_of("I;16"), "not 8 bit")],
)
def test_unreadable_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "class_0").mkdir()
    (tmp_path / "class_0" / "a.png").write_bytes(content)
    with pytest.raises(AuditError, match=message) as caught:
        drawn(fitted(tmp_path), 0, 1)
    assert "class_0/a.png" in str(caught.value)


def test_file_that_has_gone_is_named(root: Path) -> None:
    generator = fitted(root)
    shutil.rmtree(root / "class_1")
    with pytest.raises(AuditError, match="a.jpg"):
        drawn(generator, 1, 1)


def test_content_and_not_place_is_the_key(root: Path) -> None:
    config = FromFolder.Config(root=str(root))
    assert config.identity() == {}
    assert config.needs() == (Files(str(root)),)
