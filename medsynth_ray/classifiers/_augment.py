"""Classic augmentation of a whole batch at once: one affine warp, flips, brightness and contrast.

Every image of the batch has its own draw; all draws come from one generator. x_NCHW is float32 in [-1, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field


class Augment(BaseModel):
    """How far an image may be changed; every amount is uniform between -value and +value."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    horizontal_flip: bool = False
    """Mirror half of the images left to right. Not for images whose sides differ in meaning (heart, optic disc)."""
    vertical_flip: bool = False
    """Mirror half of the images top to bottom: skin, histology."""
    rotate_degrees: float = Field(default=10.0, ge=0.0, le=180.0)
    """Rotation about the centre."""
    zoom_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Scaling by 1 - value to 1 + value."""
    shift_share: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Shift along each axis, as a share of the side; what comes in repeats the border."""
    brightness_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Added to all pixels, as a share of the range."""
    contrast_share: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Scaling of the distance to the image's mean by 1 - value to 1 + value."""

    @classmethod
    def none(cls) -> Augment:
        """Leave images as they are."""
        return cls(rotate_degrees=0.0, zoom_share=0.0, shift_share=0.0, brightness_share=0.0, contrast_share=0.0)

    @property
    def warps(self) -> bool:
        """Whether pixels move."""
        moves = self.rotate_degrees or self.zoom_share or self.shift_share
        return bool(moves or self.horizontal_flip or self.vertical_flip)

    @property
    def recolours(self) -> bool:
        """Whether values change."""
        return bool(self.brightness_share or self.contrast_share)


def augmented(x_NCHW: torch.Tensor, augment: Augment, generator: torch.Generator) -> torch.Tensor:
    """A changed copy of the batch; the batch itself if nothing is to change. `generator` lives on the CPU."""
    if augment.warps:
        theta_N23 = _affine(len(x_NCHW), augment, generator).to(x_NCHW.device)
        grid = F.affine_grid(theta_N23, list(x_NCHW.shape), align_corners=False)
        x_NCHW = F.grid_sample(x_NCHW, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if augment.recolours:
        amount = _uniform(len(x_NCHW), 2, generator).to(x_NCHW.device).view(-1, 2, 1, 1, 1)
        mean_N111 = x_NCHW.mean(dim=(1, 2, 3), keepdim=True)
        spread = 1.0 + augment.contrast_share * amount[:, 0]
        # The range [-1, 1] is 2 wide.
        x_NCHW = mean_N111 + (x_NCHW - mean_N111) * spread + 2.0 * augment.brightness_share * amount[:, 1]
        x_NCHW = x_NCHW.clamp(-1.0, 1.0)
    return x_NCHW


def _affine(num: int, augment: Augment, generator: torch.Generator) -> torch.Tensor:
    """Maps from target to source coordinates: (N, 2, 3)."""
    angle, zoom, shift_x, shift_y = _uniform(num, 4, generator).unbind(dim=1)
    angle = angle * math.radians(augment.rotate_degrees)
    zoom = 1.0 / (1.0 + zoom * augment.zoom_share)
    mirror_x, mirror_y = torch.randint(0, 2, (2, num), generator=generator).float() * 2.0 - 1.0
    flip_x = mirror_x if augment.horizontal_flip else torch.ones(num)
    flip_y = mirror_y if augment.vertical_flip else torch.ones(num)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    # Coordinates run over [-1, 1]: a share of the side is twice as much.
    shift_x, shift_y = (2.0 * augment.shift_share * shift for shift in (shift_x, shift_y))
    rows = [cos * flip_x, -sin * flip_y, shift_x, sin * flip_x, cos * flip_y, shift_y]
    return torch.stack(rows, dim=1).view(num, 2, 3)


def _uniform(num: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """(num, count) draws between -1 and 1."""
    return torch.rand(num, count, generator=generator) * 2.0 - 1.0
