"""A classifier that is a timm model with a fresh head, whose first blocks may be frozen."""

from __future__ import annotations

import difflib
from typing import Any, Self, cast

import timm
import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from timm.models import PretrainedCfg, group_parameters
from torch import nn

from medsynth_ray.checkpoints import timm_pretrained
from medsynth_ray.classifiers._network import NetworkClassifier, NetworkConfig
from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Need, Runtime, Weights


class TimmConfig(NetworkConfig):
    """Which model, what it starts from, and how much of it is trained."""

    model: str
    """Name in timm."""
    weights: str | None = Field(default=None, json_schema_extra={"key": False})
    """Local path or registered name of a checkpoint of this model (safetensors, or a file that torch loads with
    weights_only). None: scratch."""
    resolution: int | None = Field(default=None, ge=16, le=2048)
    """Side in pixels to which images are scaled inside, bicubic and antialiased. None: they enter as they are."""
    freeze_up_to: int = Field(default=0, ge=0)
    """Blocks that are not trained, batch norms in them as in the checkpoint: the stem is the first block, then come
    the model's stages or transformer blocks."""

    @field_validator("model")
    @classmethod
    def _known(cls, value: str) -> str:
        if not timm.is_model(value):
            near = difflib.get_close_matches(value, timm.list_models(), 1)
            raise ValueError(f"timm has no model {value!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return value

    @model_validator(mode="after")
    def _frozen_layers_are_not_random(self) -> Self:
        if self.freeze_up_to and not self.pretrained:
            raise ValueError(f"freeze_up_to: {self.freeze_up_to} would freeze random layers; give `weights`")
        return self

    @property
    def pretrained(self) -> bool:
        """Whether training starts from a checkpoint."""
        return self.weights is not None

    def needs(self) -> tuple[Need, ...]:
        """The weights file."""
        return () if self.weights is None else (Weights(self.weights),)


class TimmClassifier(NetworkClassifier):
    """Base of classifiers that are a timm model; `config` is a `TimmConfig`."""

    config: TimmConfig

    def make_network(self, image_shape: tuple[int, int, int], num_classes: int, runtime: Runtime | None) -> nn.Module:
        """The model, its input's size and scale as the settings say, its first blocks frozen."""
        config = self.config
        cfg: Any = timm.get_pretrained_cfg(config.model) or PretrainedCfg()
        *sides, channels = image_shape
        side = config.resolution
        options: dict[str, Any] = {"img_size": (side, side) if side else tuple(sides)} if cfg.fixed_input_size else {}
        if config.weights is None or runtime is None:
            network = timm.create_model(config.model, in_chans=channels, num_classes=num_classes, **options)
        else:
            network, _ = timm_pretrained(config.model, runtime.weights(config.weights), in_chans=channels, **options)
            cast(Any, network).reset_classifier(num_classes)
        freeze_blocks(network, config.freeze_up_to, config.model)
        steps: list[nn.Module] = [_Resize(side)] if side else []
        steps += [_Rescale(cfg, channels)] if config.weights is not None else []
        return nn.Sequential(*steps, network) if steps else network


class _Resize(nn.Module):
    """Scale to a square, bicubic and antialiased, within [-1, 1]."""

    def __init__(self, side_px: int) -> None:
        super().__init__()
        self.size = (side_px, side_px)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        if x_NCHW.shape[2:] == self.size:
            return x_NCHW
        return F.interpolate(x_NCHW, size=self.size, mode="bicubic", antialias=True).clamp(-1.0, 1.0)


class _Rescale(nn.Module):
    """From [-1, 1] to the mean and standard deviation that the checkpoint was trained with."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, cfg: Any, channels: int) -> None:
        super().__init__()
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (cfg.mean, cfg.std))
        if channels == 1:
            mean, std = mean.mean(dim=1, keepdim=True), std.mean(dim=1, keepdim=True)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        return ((x_NCHW + 1.0) / 2.0 - self.mean) / self.std


def freeze_blocks(network: Any, num_blocks: int, name: str) -> None:
    """Take the first `num_blocks` blocks of a timm model, its stem being one, out of training.

    Raises:
        ConfigError: the model has fewer blocks before its head.
    """
    if not num_blocks:
        return
    blocks = _blocks(network)
    if num_blocks > len(blocks):
        raise ConfigError(f"freeze_up_to: {name} has {len(blocks)} blocks before its head, got {num_blocks}")
    for block in blocks[:num_blocks]:
        for parameter in block:
            parameter.requires_grad_(False)


def _blocks(network: Any) -> list[list[nn.Parameter]]:
    """The parameters of each of timm's coarse groups, in order, up to the one that holds the head's."""
    heads = network.get_classifier()
    head = {id(p) for one in (heads if isinstance(heads, tuple) else (heads,)) for p in one.parameters()}
    groups = group_parameters(network, network.group_matcher(coarse=True), return_values=True)
    blocks: list[list[nn.Parameter]] = []
    for _, block in sorted(groups.items()):
        if head & {id(p) for p in block}:
            break
        blocks.append(block)
    return blocks
