"""Every component found among the spaces, plug-ins included, keeps the contract of its role."""

from __future__ import annotations

import pytest

from medsynth_ray import registry
from medsynth_ray.contracts import FeatureSpaceContract
from medsynth_ray.protocols import ComponentConfig


class TestFeatureSpaces(FeatureSpaceContract):
    """A new file is tested without being named here."""

    @pytest.fixture(params=registry.names("spaces"))
    def config(self, request: pytest.FixtureRequest) -> ComponentConfig:
        """Tiny settings of each component."""
        return registry.load("spaces", request.param).Config.tiny()
