"""Every component found among the generators, plug-ins included, keeps the contract of its role."""

from __future__ import annotations

import pytest

from medsynth_ray import registry
from medsynth_ray.contracts import GeneratorContract
from medsynth_ray.protocols import ComponentConfig


class TestGenerators(GeneratorContract):
    """A new file is tested without being named here."""

    @pytest.fixture(params=registry.names("generators"))
    def config(self, request: pytest.FixtureRequest) -> ComponentConfig:
        """Tiny settings of each component."""
        return registry.load("generators", request.param).Config.tiny()
