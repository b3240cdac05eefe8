"""Shown images with their cosine spectrum disturbed: DCT augmentation, methods 1 and 2.

After Nanni, Paci, Brahnam and Lumini, "Feature transforms for image data augmentation" (Neural Computing and
Applications 2022, doi 10.1007/s00521-022-07645-z), in our reading, since the papers that use the methods name them and
give no formula. Each channel is transformed as a whole (orthonormal DCT-II); in a band of frequencies

- method 1, `zero`: each coefficient is set to 0 with a probability;
- method 2, `noise`: Gaussian noise is added to each, in proportion to the standard deviation of the channel's
  coefficients.

The coefficient of frequency 0, which is the channel's mean, always stays. What comes back is clipped to [0, 255].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator
from scipy.fft import dctn, idctn

from medsynth_ray.generators._drawing import FromSources, in_shards, source_rows
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import Draw, GeneratorConfig, PoolShard, Runtime
from medsynth_ray.space import Space, Uniform


class DctAugment(FromSources):
    """Draws disturbed copies of shown images; each shown image of the class is used once before any is used again."""

    class Config(GeneratorConfig):
        """Which coefficients are disturbed, and how."""

        method: Literal["zero", "noise"] = "zero"
        """`zero` is method 1, `noise` is method 2."""
        zero_share: float = Field(default=0.5, ge=0.0, le=1.0)
        """Method 1: probability with which a coefficient of the band is set to 0."""
        noise_scale: float = Field(default=0.1, ge=0.0, le=10.0)
        """Method 2: standard deviation of the noise over that of the channel's coefficients, mean left out. In the
        whole band it is the standard deviation of the noise over that of the channel's pixels."""
        band_start_share: float = Field(default=0.0, ge=0.0, lt=1.0)
        """Lower frequencies stay; 1 is the highest frequency, on the diagonal."""
        band_end_share: float = Field(default=1.0, gt=0.0, le=1.0)
        """Frequencies from here on stay, unless this is 1."""

        @model_validator(mode="after")
        def _band_is_not_empty(self) -> Self:
            if self.band_start_share >= self.band_end_share:
                raise ValueError(
                    f"band_start_share must be below band_end_share, got {self.band_start_share} and "
                    f"{self.band_end_share}"
                )
            return self

        def search_space(self) -> dict[str, Space]:
            """The amount that the method has, and where the band begins."""
            start: dict[str, Space] = {"band_start_share": Uniform(low=0.0, high=0.5 * self.band_end_share)}
            if self.method == "zero":
                return start | {"zero_share": Uniform(low=0.05, high=0.9)}
            return start | {"noise_scale": Uniform(low=0.02, high=0.5)}

    config: Config

    def sample(self, draw: Draw, *, sources: ImageSet | None, runtime: Runtime) -> Iterator[PoolShard]:
        """Yield disturbed images of `sources`.

        Raises:
            ValueError: there is no source image, or none of a class.
        """
        if sources is None:
            raise ValueError("dct_augment needs sources: the shown images")
        band = self._band(*sources.image_shape[:2])

        def paint(part: Draw) -> PoolShard:
            rows = source_rows(part, sources)
            pairs = zip(rows, part.seeds, strict=True)
            disturbed = [self._disturb(sources.pixels[row], int(seed), band) for row, seed in pairs]
            return PoolShard(np.stack(disturbed), sources.ids[rows])

        yield from in_shards(draw, paint, runtime=runtime)

    def _band(self, height: int, width: int) -> np.ndarray:
        """Which coefficients may be disturbed: bool (H, W, 1). Frequency 0 is not among them."""
        down, across = np.ogrid[:height, :width]
        frequency = np.hypot(down / max(height - 1, 1), across / max(width - 1, 1)) / np.sqrt(2.0)
        band = frequency >= self.config.band_start_share
        if self.config.band_end_share < 1.0:
            band &= frequency < self.config.band_end_share
        band[0, 0] = False
        allowed: np.ndarray = band[..., None]
        return allowed

    def _disturb(self, pixels: np.ndarray, seed: int, band: np.ndarray) -> np.ndarray:
        """One image on its own: transformed in company, it could differ in the last bit."""
        rng = np.random.default_rng(seed)
        spectrum = dctn(pixels.astype(np.float64), axes=(0, 1), norm="ortho")
        if self.config.method == "zero":
            spectrum[(rng.random(spectrum.shape) < self.config.zero_share) & band] = 0.0
        else:
            alternating = spectrum.reshape(-1, spectrum.shape[2])[1:]
            scale = self.config.noise_scale * (alternating.std(axis=0) if len(alternating) else 0.0)
            spectrum += band * scale * rng.standard_normal(spectrum.shape)
        back = idctn(spectrum, axes=(0, 1), norm="ortho")
        disturbed: np.ndarray = np.rint(np.clip(back, 0.0, 255.0)).astype(np.uint8)
        return disturbed
