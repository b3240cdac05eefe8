"""medsynth_ray: which generator, which settings, how many synthetic images - and is the gain real and private?

`import medsynth_ray` is cheap: torch, ray and mlflow are imported only by what needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsynth_ray.config import SweepConfig as SweepConfig
    from medsynth_ray.driver import Sweep as Sweep

__version__ = "0.1.0"
__all__ = ["Sweep", "SweepConfig", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Sweep":
        from medsynth_ray.driver import Sweep

        return Sweep
    if name == "SweepConfig":
        from medsynth_ray.config import SweepConfig

        return SweepConfig
    raise AttributeError(f"module 'medsynth_ray' has no attribute {name!r}")
