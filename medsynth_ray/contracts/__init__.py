"""What every component must do, as pytest classes: subclass the one of your role and say which settings it runs with.

    class TestMyMixer(MixerContract):
        @pytest.fixture(params=[MyMixer.Config.tiny()])
        def config(self, request):
            return request.param

The component must be importable by its module's name, since one test runs it in another process.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(*(f"medsynth_ray.contracts._{part}" for part in ("base", "producing", "judging")))

from medsynth_ray.contracts._base import ConfigContract  # noqa: E402 - after its asserts were registered
from medsynth_ray.contracts._judging import (  # noqa: E402
    ClassifierContract,
    FeatureSpaceContract,
    GateContract,
    MetricContract,
)
from medsynth_ray.contracts._producing import (  # noqa: E402
    GeneratorContract,
    MixerContract,
    PreprocessorContract,
    SamplerContract,
)

__all__ = [
    "ClassifierContract",
    "ConfigContract",
    "FeatureSpaceContract",
    "GateContract",
    "GeneratorContract",
    "MetricContract",
    "MixerContract",
    "PreprocessorContract",
    "SamplerContract",
]
