"""ResNet-50 fine-tuned as in HybridQ: learning rate 1e-3 on a pretrained network.

The paper states no more than that. Optimiser, warm-up, cosine, epochs and batch size are those of `resnet`; without a
word on class weights or augmentation there are none of them. Images enter at the size of the data (64 px there).
"""

from __future__ import annotations

from pydantic import Field

from medsynth_ray.classifiers._augment import Augment
from medsynth_ray.classifiers._fitting import ClassWeight
from medsynth_ray.classifiers._pretrained import PretrainedConfig
from medsynth_ray.classifiers._timm import TimmClassifier, TimmConfig


class Resnet50(TimmClassifier):
    """All layers of a pretrained ResNet-50, with a fresh head."""

    class Config(PretrainedConfig, TimmConfig):
        """Settings."""

        model: str = "resnet50"
        """Name in timm."""
        weights: str | None = Field(default="resnet50", json_schema_extra={"key": False})
        """Local path or registered name of the checkpoint."""
        class_weight: ClassWeight = "none"
        """balanced: every class weighs the same in the loss, however many images it has."""
        augment: Augment = Augment.none()
        """Classic augmentation, drawn anew for every image and epoch."""

        @classmethod
        def tiny(cls) -> Resnet50.Config:
            """Three steps of timm's smallest ResNet, random."""
            return cls(model="test_resnet", random_init=True, max_train_steps=3, train_batch_size=8, eval_batch_size=8)

    config: Config
