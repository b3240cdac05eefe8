"""medsynth_ray: which generator, which settings, how many synthetic images - and is the gain real and private?

`import medsynth_ray` is cheap: torch, ray and mlflow are imported only by what needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsynth_ray.sweep import Sweep as Sweep
    from medsynth_ray.sweep import SweepConfig as SweepConfig

__version__ = "0.1.0"
__all__ = ["Sweep", "SweepConfig", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Sweep", "SweepConfig"):
        from medsynth_ray import sweep

        return getattr(sweep, name)
    raise AttributeError(f"module 'medsynth_ray' has no attribute {name!r}")
