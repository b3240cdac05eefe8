"""Search spaces as plain data, written beside the parameter they vary. No Ray or Optuna types here."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Space(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Interval(_Space):
    @model_validator(mode="after")
    def _ordered(self) -> Any:
        low, high = self.low, self.high  # type: ignore[attr-defined]
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"low must be below high, both finite; got low={low}, high={high}")
        if (self.kind == "log_uniform" or getattr(self, "log", False)) and low <= 0:  # type: ignore[attr-defined]
            raise ValueError(f"a log scale needs low > 0; got low={low}")
        return self


class Uniform(_Interval):
    """Real numbers in [low, high], uniformly."""

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float

    def sample(self, rng: np.random.Generator) -> float:
        """One value."""
        return float(rng.uniform(self.low, self.high))

    def grid(self, num: int) -> list[Any]:
        """`num` evenly spaced values, both ends included."""
        return [float(v) for v in np.linspace(self.low, self.high, num)]


class LogUniform(_Interval):
    """Real numbers in [low, high], uniformly in the logarithm."""

    kind: Literal["log_uniform"] = "log_uniform"
    low: float
    high: float

    def sample(self, rng: np.random.Generator) -> float:
        """One value."""
        return float(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))

    def grid(self, num: int) -> list[Any]:
        """`num` values evenly spaced in the logarithm, both ends included."""
        return [float(v) for v in np.geomspace(self.low, self.high, num)]


class IntRange(_Interval):
    """Whole numbers in [low, high]; with `log`, uniformly in the logarithm."""

    kind: Literal["int_range"] = "int_range"
    low: int
    high: int
    log: bool = False

    def sample(self, rng: np.random.Generator) -> int:
        """One value."""
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high + 1)))
            return min(int(value), self.high)
        return int(rng.integers(self.low, self.high + 1))

    def grid(self, num: int) -> list[Any]:
        """At most `num` distinct values, both ends included."""
        points = np.geomspace(self.low, self.high, num) if self.log else np.linspace(self.low, self.high, num)
        return sorted({round(float(v)) for v in points})


class Choice(_Space):
    """One of a list of values (text, numbers or booleans)."""

    kind: Literal["choice"] = "choice"
    values: tuple[str | int | float | bool, ...] = Field(min_length=1)

    def sample(self, rng: np.random.Generator) -> Any:
        """One value."""
        return self.values[int(rng.integers(len(self.values)))]

    def grid(self, num: int) -> list[Any]:
        """All values: `num` does not apply."""
        return list(self.values)


Space = Annotated[Uniform | LogUniform | IntRange | Choice, Field(discriminator="kind")]
