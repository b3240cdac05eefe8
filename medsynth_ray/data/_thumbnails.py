"""Small pictures of the images that findings are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from medsynth_ray.data.audit import Finding

MAX_PX = 64
MAX_PER_FINDING = 8
NEVER_SHOWN = frozenset({"burned_in", "patient_in_path"})
"""Kinds of findings whose images may show or name a patient: they get no picture, whatever else names them."""


def thumbnails(findings: Sequence[Finding], rows: Mapping[str, int], pixels: np.ndarray) -> dict[str, np.ndarray]:
    """Id -> uint8 (S, S, 1 or 3), S <= 64, for the first images of each finding, sorted by id.

    rows: id -> row of `pixels` uint8 (N, H, H, C), for all images that could be decoded. Images that a finding of
    a kind in `NEVER_SHOWN` names are left out.
    """
    hidden = {name for finding in findings if finding.kind in NEVER_SHOWN for name in finding.ids}
    named = {name for finding in findings for name in finding.ids[:MAX_PER_FINDING] if name in rows} - hidden
    return {name: _small(pixels[rows[name]]) for name in sorted(named)}


def _small(pixels: np.ndarray) -> np.ndarray:
    gray = pixels.shape[2] == 1 or bool((pixels == pixels[..., :1]).all())
    image = Image.fromarray(pixels[..., 0] if gray else pixels)
    side = min(MAX_PX, image.width)
    small = np.array(image.resize((side, side), Image.Resampling.BICUBIC))
    return small[..., None] if gray else small
