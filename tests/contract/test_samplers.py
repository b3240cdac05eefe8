"""Every component found among the samplers, plug-ins included, keeps the contract of its role."""

from __future__ import annotations

import pytest

from medsynth_ray import registry
from medsynth_ray.contracts import SamplerContract
from medsynth_ray.protocols import ComponentConfig


class TestSamplers(SamplerContract):
    """A new file is tested without being named here."""

    @pytest.fixture(params=registry.names("samplers"))
    def config(self, request: pytest.FixtureRequest) -> ComponentConfig:
        """Tiny settings of each component."""
        return registry.load("samplers", request.param).Config.tiny()
