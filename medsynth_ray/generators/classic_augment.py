"""Classic augmentation of shown images: the control that a generator has to beat.

Each image is one shown image of its class, mirrored, rotated, zoomed and shifted in one bilinear resampling, then
changed in stain, contrast and brightness, with noise on top; every amount is drawn from the image's own seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from medsynth_ray.generators._drawing import FromSources, in_shards, source_rows
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Draw, GeneratorConfig, PoolShard, Runtime
from medsynth_ray.space import Space, Uniform

_PRESETS: dict[str, dict[str, float | str]] = {
    "none": {},
    "fundus": {"rotation_degrees": 15.0, "brightness_share": 0.15, "contrast_share": 0.15},
    "xray": {"horizontal_flip_share": 0.0, "rotation_degrees": 7.0},
    "skin": {"vertical_flip_share": 0.5, "rotation_degrees": 180.0, "zoom_share": 0.2},
    "mri": {"horizontal_flip_share": 0.0, "brightness_share": 0.15, "contrast_share": 0.2, "fill": "black"},
    "ct": {
        "horizontal_flip_share": 0.0,
        "rotation_degrees": 7.0,
        "zoom_share": 0.05,
        "brightness_share": 0.02,
        "contrast_share": 0.02,
        "noise_levels": 4.0,
        "fill": "black",
    },
    "oct": {"rotation_degrees": 5.0, "zoom_share": 0.05, "noise_levels": 6.0, "fill": "edge"},
    "microscopy": {
        "vertical_flip_share": 0.5,
        "rotation_degrees": 180.0,
        "zoom_share": 0.05,
        "contrast_share": 0.05,
        "brightness_share": 0.05,
        "stain_share": 0.15,
    },
}
_SEARCHED = {
    "rotation_degrees": 30.0,
    "zoom_share": 0.3,
    "translation_share": 0.15,
    "brightness_share": 0.3,
    "contrast_share": 0.3,
    "noise_levels": 8.0,
}
"""How far a search goes where no preset says otherwise."""
_PADDING = {"reflect": "reflection", "edge": "border", "black": "zeros"}


class ClassicAugment(FromSources):
    """Draws altered copies of shown images; each shown image of the class is used once before any is used again."""

    class Config(GeneratorConfig):
        """How far the images are altered. 0 switches an operation off."""

        preset: Literal["none", "fundus", "xray", "skin", "mri", "ct", "oct", "microscopy"] = "none"
        """Other defaults for what is not given below, chosen so that the label stays true.

        - fundus: mirrored (left and right eye), 15 degrees, stronger light; not upside down.
        - xray: never mirrored (the heart has a side), 7 degrees.
        - skin: any orientation (the camera has none), more zoom; colours stay, they are diagnostic.
        - mri: never mirrored (organs and hemispheres have sides); stronger light, since its levels have no unit.
        - ct: never mirrored, 7 degrees; hardly any change of light, since its levels are Hounsfield units, and of size.
        - oct: mirrored (left and right eye), never upside down (layers have an order), 5 degrees; more noise (speckle).
          What lies outside repeats the edge: a mirror image would double the layers.
        - microscopy: any orientation; hardly any zoom (the size of a cell is diagnostic); the stain varies."""
        horizontal_flip_share: float = Field(default=0.5, ge=0.0, le=1.0)
        """Share of images mirrored left-right."""
        vertical_flip_share: float = Field(default=0.0, ge=0.0, le=1.0)
        """Share of images mirrored top-bottom."""
        rotation_degrees: float = Field(default=10.0, ge=0.0, le=180.0)
        """Rotation by up to this angle, either way."""
        zoom_share: float = Field(default=0.1, ge=0.0, lt=1.0)
        """The visible part is up to this share narrower (a crop) or wider than the image."""
        translation_share: float = Field(default=0.05, ge=0.0, lt=1.0)
        """Shift by up to this share of width and of height."""
        brightness_share: float = Field(default=0.1, ge=0.0, le=1.0)
        """Brighter or darker by up to this share of the full range of 255 levels."""
        contrast_share: float = Field(default=0.1, ge=0.0, lt=1.0)
        """Deviations from the image's mean grow or shrink by up to this share."""
        noise_levels: float = Field(default=2.0, ge=0.0, le=255.0)
        """Standard deviation of Gaussian noise, in levels of 255; each value of each channel on its own."""
        stain_share: float = Field(default=0.0, ge=0.0, lt=1.0)
        """Optical density, -log(value / 255), grows or shrinks by up to this share, each channel on its own: more or
        less of a stain, on a background that stays white (Beer and Lambert's law)."""
        fill: Literal["reflect", "edge", "black"] = "reflect"
        """What lies outside the source image: its mirror image, its edge, or black."""

        @model_validator(mode="before")
        @classmethod
        def _fill_from_preset(cls, given: Any) -> Any:
            preset = _PRESETS.get(str(given.get("preset", "none")), {}) if isinstance(given, dict) else {}
            return {**preset, **given} if preset else given

        def search_space(self) -> dict[str, Space]:
            """The amounts of geometry and light, from 0 to at most twice what the preset says of them, or to that."""
            preset = _PRESETS[self.preset]
            highs = {}
            for name, high in _SEARCHED.items():
                own = float(preset.get(name, high))
                highs[name] = max(own, min(high, 2.0 * own))
            return {name: Uniform(low=0.0, high=high) for name, high in highs.items()}

    config: Config

    def sample(self, draw: Draw, *, sources: ImageSet | None, runtime: Runtime) -> Iterator[PoolShard]:
        """Yield altered images of `sources`.

        Raises:
            ValueError: there is no source image, or none of a class.
        """
        if sources is None:
            raise ValueError("classic_augment needs sources: the shown images")

        def paint(part: Draw) -> PoolShard:
            rows = source_rows(part, sources)
            return PoolShard(self._alter(sources.pixels[rows], part.seeds), sources.ids[rows])

        yield from in_shards(draw, paint, runtime=runtime)

    def _alter(self, pixels: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        rngs = [np.random.default_rng(int(seed)) for seed in seeds]
        u = np.stack([rng.uniform(-1.0, 1.0, 8) for rng in rngs]).astype(np.float32)
        grid = torch.from_numpy(self._grid(u, pixels.shape[1], pixels.shape[2]))
        x_NCHW = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).float()
        moved = torch.nn.functional.grid_sample(x_NCHW, grid, "bilinear", _PADDING[self.config.fill], False)
        if self.config.stain_share:
            moved = self._stain(moved, seeds)
        values = moved.numpy().transpose(0, 2, 3, 1)
        mean = moved.mean(dim=(1, 2, 3)).numpy()[:, None, None, None]
        contrast = (1.0 + self.config.contrast_share * u[:, 6])[:, None, None, None]
        brightness = (255.0 * self.config.brightness_share * u[:, 7])[:, None, None, None]
        values = (values - mean) * contrast + mean + brightness
        if self.config.noise_levels:
            noise = np.stack([rng.standard_normal(values.shape[1:], dtype=np.float32) for rng in rngs])
            values += np.float32(self.config.noise_levels) * noise
        altered: np.ndarray = np.rint(np.clip(values, 0.0, 255.0)).astype(np.uint8)
        return altered

    def _stain(self, x_NCHW: torch.Tensor, seeds: np.ndarray) -> torch.Tensor:
        """Densities times a factor are values to its power; drawn aside, so that everything else stays as it is."""
        draws = [np.random.default_rng([int(seed), 1]).uniform(-1.0, 1.0, x_NCHW.shape[1]) for seed in seeds]
        power = torch.from_numpy(1.0 + self.config.stain_share * np.stack(draws)).float()[:, :, None, None]
        return 255.0 * (x_NCHW.clamp(0.0, 255.0) / 255.0) ** power

    def _grid(self, u: np.ndarray, height: int, width: int) -> np.ndarray:
        """Where each output pixel looks in its source: float32 (N, H, W, 2), x and y in [-1, 1] over the image.

        Written out element by element: a batched product may round differently with the number of images.
        """
        config = self.config
        angle = np.deg2rad(config.rotation_degrees) * u[:, 0]
        scale = 1.0 + config.zoom_share * u[:, 1]
        cos, sin = ((scale * f(angle))[:, None, None].astype(np.float32) for f in (np.cos, np.sin))
        shift_x, shift_y = (2.0 * config.translation_share * u[:, i, None, None] for i in (2, 3))
        side_x = np.where(u[:, 4] < 2.0 * config.horizontal_flip_share - 1.0, -1.0, 1.0).astype(np.float32)
        side_y = np.where(u[:, 5] < 2.0 * config.vertical_flip_share - 1.0, -1.0, 1.0).astype(np.float32)
        x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2)[None, None, :] * side_x[:, None, None]
        y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2)[None, :, None] * side_y[:, None, None]
        look_x = (cos * x - sin * y) * np.float32(2.0 / width) + shift_x
        look_y = (sin * x + cos * y) * np.float32(2.0 / height) + shift_y
        return np.stack([look_x, look_y], axis=-1).astype(np.float32)
