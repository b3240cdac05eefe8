"""Settings of classifiers that are published with pretrained weights: with them, or with random layers if asked for."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from medsynth_ray.protocols import ComponentConfig


class PretrainedConfig(ComponentConfig):
    """`weights` or `random_init: true`; the latter stands for no weights where none are named."""

    weights: str | None = Field(default=None, json_schema_extra={"key": False})
    """Local path or registered name of the checkpoint: safetensors, or a file that torch loads with weights_only."""
    random_init: bool = False
    """True: train from random layers. What comes out says nothing about the published classifier."""

    @model_validator(mode="before")
    @classmethod
    def _random_needs_no_file(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("random_init") is True:
            return {"weights": None, **data}
        return data

    @model_validator(mode="after")
    def _weights_or_random(self) -> Self:
        if (self.weights is None) != self.random_init:
            raise ValueError(
                "give `weights` (a local file or a registered name) or random_init: true, not both or neither; "
                f"got weights={self.weights!r}, random_init={self.random_init}"
            )
        return self
