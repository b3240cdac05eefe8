"""Ready-made synthetic images, `root/<class>/*`: any tool's output can be judged beside ours."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

import fsspec
import numpy as np
from PIL import Image, ImageOps
from pydantic import Field

from medsynth_ray.errors import AuditError, ConfigError
from medsynth_ray.generators._drawing import in_shards
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Component, Draw, Files, GeneratorConfig, Need, PoolShard, Runtime

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class FromFolder(Component):
    """Draws the images of a folder, in an order shuffled by name; the image's seed plays no part."""

    needs_sources: ClassVar[bool] = False
    fitted_on_unknown: ClassVar[bool] = True

    class Config(GeneratorConfig):
        """Where the images are."""

        root: str = Field(min_length=1, json_schema_extra={"key": False})
        """Folder or fsspec URL that holds one folder of images (png, jpg, bmp, tif, webp; 8 bit) for each class, named
        as the classes of the data. Other files are passed over, and so is every name that starts with a dot. The
        folder's content, not its place, enters the content key."""

        @classmethod
        def tiny(cls) -> Self:
            """A folder of eight small images for each of `class_0`, `class_1`, gone when the process ends."""
            return cls(root=_tiny_folder())

        def needs(self) -> tuple[Need, ...]:
            """The folder."""
            return (Files(self.root),)

    config: Config

    def fit(self, shown: ImageSet, *, seed: int, runtime: Runtime) -> None:
        """List the folder; of the shown images only the shape and the class names are used.

        Raises:
            ConfigError: the folder holds no image, or a class that the data do not have.
        """
        self._shape = shown.image_shape
        self._class_names = shown.class_names
        self._files = self._scan()

    def capacity(self, label: int) -> int | None:
        """Return the number of files of the class."""
        return len(self._files[label])

    def sample(self, draw: Draw, *, sources: ImageSet | None, runtime: Runtime) -> Iterator[PoolShard]:
        """Yield the images, resized (bicubic, antialiased) and with as many channels as the real ones.

        Raises:
            ValueError: an index is beyond the number of files of its class.
            AuditError: a file cannot be read as an 8-bit image; it is named.
        """
        yield from in_shards(draw, self._paint, runtime=runtime)

    def save(self, folder: Path) -> None:
        """Write config.json and files.json; the images stay where they are."""
        self.save_config(folder)
        state = {"shape": self._shape, "class_names": self._class_names, "files": self._files}
        (folder / "files.json").write_text(json.dumps(state, sort_keys=True))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        generator = cls.from_config_of(folder)
        state = json.loads((folder / "files.json").read_text())
        generator._shape, generator._class_names = tuple(state["shape"]), tuple(state["class_names"])
        generator._files = state["files"]
        return generator

    def _scan(self) -> list[list[str]]:
        """Paths below the root for each class, ordered by a hash of the path: a prefix is a fair sample."""
        filesystem, root = fsspec.core.url_to_fs(self.config.root)
        paths = [path[len(root) :].lstrip("/") for path in filesystem.find(root)] if filesystem.exists(root) else []
        files: dict[str, list[str]] = {name: [] for name in self._class_names}
        for path in paths:
            name, _, rest = path.partition("/")
            if "/." in f"/{path}" or not rest.lower().endswith(_SUFFIXES):
                continue
            if name not in files:
                raise ConfigError(
                    f"from_folder.root {self.config.root!r}: folder {name!r} is no class of the data "
                    f"(classes: {', '.join(self._class_names)})"
                )
            files[name].append(path)
        if not any(files.values()):
            raise ConfigError(
                f"from_folder.root {self.config.root!r} holds no image; expected root/<class>/<image> "
                f"with suffix {' '.join(_SUFFIXES)}"
            )
        return [sorted(found, key=lambda path: hashlib.sha256(path.encode()).digest()) for found in files.values()]

    def _paint(self, draw: Draw) -> PoolShard:
        images = [self._read(int(c), int(i)) for c, i in zip(draw.labels, draw.indices, strict=True)]
        return PoolShard(np.stack(images), np.full(len(draw), "", dtype=np.str_))

    def _read(self, label: int, index: int) -> np.ndarray:
        files = self._files[label]
        if index >= len(files):
            raise ValueError(
                f"from_folder: image {index} of class {self._class_names[label]!r} was asked for, "
                f"the folder holds {len(files)}"
            )
        path = f"{self.config.root.rstrip('/')}/{files[index]}"
        try:
            with fsspec.open(path, "rb") as file, Image.open(file) as image:
                return self._fit_shape(ImageOps.exif_transpose(image))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise AuditError(f"from_folder: cannot read {path} as an 8-bit image: {error}") from error

    def _fit_shape(self, image: Image.Image) -> np.ndarray:
        if image.mode.startswith(("I", "F")):  # Pillow's convert would clip 16 bit at 255 without a word.
            raise ValueError(f"its pixels are of mode {image.mode}, not 8 bit")
        height, width, channels = self._shape
        converted = image.convert("RGB" if channels == 3 else "L")
        resized = converted.resize((width, height), Image.Resampling.BICUBIC)
        return np.asarray(resized).reshape(self._shape)


@functools.cache
def _tiny_folder() -> str:
    """A folder of deterministic content, made once in a process."""
    root = Path(tempfile.mkdtemp(prefix="medsynth-from-folder-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    rng = np.random.default_rng(0)
    for name in ("class_0", "class_1"):
        (root / name).mkdir()
        for i in range(8):
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return str(root)
