"""A ResNet (arXiv 1512.03385), or any other timm model by name, trained from scratch or from a local checkpoint."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator
from torch import nn

from medsynth_ray.classifiers._timm import TimmClassifier, TimmConfig
from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Runtime


class Resnet(TimmClassifier):
    """A timm model with a fresh head for the classes of the data."""

    class Config(TimmConfig):
        """Settings."""

        model: str = "resnet18"
        """Name in timm; other families than ResNet work as well."""
        stem: Literal["imagenet", "small"] = "imagenet"
        """small: a 3 x 3 first convolution and no max pool; ResNets from scratch only. Fewer epochs, each more than
        twice as dear: on chest X-rays it drew level in CPU time at 32 px and lost clearly at 64 px."""

        @model_validator(mode="after")
        def _small_stem_is_trained(self) -> Resnet.Config:
            if self.stem == "small" and self.pretrained:
                raise ValueError(f"stem: small is for training from scratch; got weights={self.weights!r}")
            return self

        @classmethod
        def tiny(cls) -> Resnet.Config:
            """Three steps of timm's smallest ResNet."""
            return cls(model="test_resnet", max_train_steps=3, train_batch_size=8, eval_batch_size=8)

    config: Config

    def make_network(self, image_shape: tuple[int, int, int], num_classes: int, runtime: Runtime | None) -> nn.Module:
        """The model, its stem as the settings say."""
        network = super().make_network(image_shape, num_classes, runtime)
        if self.config.stem == "small":
            _shrink_stem(network[-1] if isinstance(network, nn.Sequential) else network, self.config.model)
        return network


def _shrink_stem(network: Any, name: str) -> None:
    old = getattr(network, "conv1", None)
    if not (isinstance(old, nn.Conv2d) and old.kernel_size == (7, 7) and hasattr(network, "maxpool")):
        raise ConfigError(f"stem: small needs a model with a 7 x 7 first convolution and a max pool; {name} has none")
    network.conv1 = nn.Conv2d(old.in_channels, old.out_channels, kernel_size=3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
