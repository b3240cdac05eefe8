"""A ResNet (arXiv 1512.03385), or any other timm model by name, trained from scratch or from a local checkpoint."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, cast

import timm
import torch
from pydantic import Field, field_validator, model_validator
from timm.models import PretrainedCfg, load_state_dict
from torch import nn

from medsynth_ray.classifiers._network import NetworkClassifier, NetworkConfig
from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Need, Runtime, Weights


class Resnet(NetworkClassifier):
    """A timm model with a fresh head for the classes of the data."""

    class Config(NetworkConfig):
        """Settings."""

        model: str = "resnet18"
        """Name in timm; other families than ResNet work as well."""
        weights: str | None = Field(default=None, json_schema_extra={"key": False})
        """Local checkpoint of this model (safetensors, or a file that torch loads with weights_only). None: scratch."""
        stem: Literal["imagenet", "small"] = "imagenet"
        """small: a 3 x 3 first convolution and no max pool; ResNets from scratch only. Fewer epochs, each more than
        twice as dear: on chest X-rays it drew level in CPU time at 32 px and lost clearly at 64 px."""

        @model_validator(mode="after")
        def _stem_is_fresh(self) -> Resnet.Config:
            if self.stem == "small" and self.weights is not None:
                raise ValueError(f"stem: small is for training from scratch; got weights={self.weights!r}")
            return self

        @field_validator("model")
        @classmethod
        def _known(cls, value: str) -> str:
            if not timm.is_model(value):
                near = difflib.get_close_matches(value, timm.list_models(), 1)
                raise ValueError(f"timm has no model {value!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
            return value

        def needs(self) -> tuple[Need, ...]:
            """The weights file."""
            return () if self.weights is None else (Weights(self.weights),)

        @classmethod
        def tiny(cls) -> Resnet.Config:
            """Three steps of timm's smallest ResNet."""
            return cls(model="test_resnet", max_train_steps=3, train_batch_size=8, eval_batch_size=8)

    config: Config

    def make_network(self, image_shape: tuple[int, int, int], num_classes: int, runtime: Runtime | None) -> nn.Module:
        """The model, its stem and its input's scale as the settings say."""
        config = self.config
        cfg: Any = timm.get_pretrained_cfg(config.model) or PretrainedCfg()
        height, width, channels = image_shape
        options: dict[str, Any] = {"img_size": (height, width)} if cfg.fixed_input_size else {}
        if config.weights is None or runtime is None:
            network = timm.create_model(config.model, in_chans=channels, num_classes=num_classes, **options)
        else:
            network = _pretrained(config.model, runtime.weights(config.weights), channels, options)
            cast(Any, network).reset_classifier(num_classes)
        if config.weights is not None:
            return nn.Sequential(_Rescale(cfg, channels), network)
        if config.stem == "small":
            _shrink_stem(network, config.model)
        return network


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


def _pretrained(name: str, path: Path, channels: int, options: dict[str, Any]) -> nn.Module:
    """The model as the checkpoint has it, its own head included, so that timm loads it strictly."""
    cfg: Any = timm.get_pretrained_cfg(name) or PretrainedCfg()
    try:
        state = load_state_dict(str(path), weights_only=True)
        head = cfg.classifier if isinstance(cfg.classifier, str) else cfg.classifier[0]
        num_classes = len(state[f"{head}.bias"]) if f"{head}.bias" in state else 0
        overlay = {"state_dict": state, "num_classes": num_classes, "custom_load": False}
        return timm.create_model(
            name, pretrained=True, in_chans=channels, num_classes=num_classes, pretrained_cfg_overlay=overlay, **options
        )
    except RuntimeError as error:
        raise ConfigError(f"weights {str(path)!r} do not fit {name}: {str(error).splitlines()[0]}") from error


def _shrink_stem(network: Any, name: str) -> None:
    old = getattr(network, "conv1", None)
    if not (isinstance(old, nn.Conv2d) and old.kernel_size == (7, 7) and hasattr(network, "maxpool")):
        raise ConfigError(f"stem: small needs a model with a 7 x 7 first convolution and a max pool; {name} has none")
    network.conv1 = nn.Conv2d(old.in_channels, old.out_channels, kernel_size=3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
