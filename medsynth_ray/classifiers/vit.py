"""A vision transformer, ViT-B/16 (arXiv 2010.11929), fine-tuned as in the ISIC 2020 study with Derm-T2IM's images.

Stated there: AdamW, learning rate 2e-5, batch 32, weight decay 0.01, `get_linear_schedule_with_warmup` (a linear rise,
then a linear fall to 0), a pretrained ViT. Not stated, and chosen here: the ViT (B/16), its resolution (224 px), the
warm-up (a tenth of all steps) and the epochs (3). No word on class weights, augmentation or frozen layers: none. Biases
and norms are not decayed, as in the training loop that this schedule comes with.
"""

from __future__ import annotations

import re

from pydantic import Field, model_validator

from medsynth_ray.classifiers._augment import Augment
from medsynth_ray.classifiers._fitting import ClassWeight
from medsynth_ray.classifiers._network import Schedule
from medsynth_ray.classifiers._pretrained import PretrainedConfig
from medsynth_ray.classifiers._timm import TimmClassifier, TimmConfig


class Vit(TimmClassifier):
    """All layers of a pretrained ViT, with a fresh head."""

    class Config(PretrainedConfig, TimmConfig):
        """Settings."""

        model: str = "vit_base_patch16_224"
        """Name in timm."""
        weights: str | None = Field(default="vit_base_patch16_224", json_schema_extra={"key": False})
        """Local path or registered name of the checkpoint."""
        resolution: int | None = Field(default=224, ge=16, le=2048)
        """Side in pixels to which images are scaled inside, a multiple of the patch. None: they enter as they are."""
        num_train_epochs: int = Field(default=3, ge=1)
        """Passes over the training set; without the last images where the batch size does not divide it."""
        learning_rate: float = Field(default=2e-5, gt=0.0)
        """Largest learning rate, reached after warm-up."""
        weight_decay: float = Field(default=0.01, ge=0.0)
        """AdamW's decoupled decay, on matrices and convolutions."""
        schedule: Schedule = "linear"
        """How the learning rate falls to 0 after warm-up, or that it does not."""
        class_weight: ClassWeight = "none"
        """balanced: every class weighs the same in the loss, however many images it has."""
        augment: Augment = Augment.none()
        """Classic augmentation, drawn anew for every image and epoch."""

        @model_validator(mode="after")
        def _sides_are_whole_patches(self) -> Vit.Config:
            named = re.search(r"patch(\d+)", self.model)
            patch = int(named[1]) if named else 16
            if self.resolution is not None and self.resolution % patch:
                raise ValueError(
                    f"resolution: must be a multiple of {self.model}'s patch, {patch}, got {self.resolution}"
                )
            return self

        @classmethod
        def tiny(cls) -> Vit.Config:
            """Three steps of timm's smallest ViT at 32 px, random."""
            return cls(
                model="test_vit", random_init=True, resolution=32, max_train_steps=3, train_batch_size=8,
                eval_batch_size=8,
            )  # fmt: skip

    config: Config
