"""Every component found among the gates, plug-ins included, keeps the contract of its role."""

from __future__ import annotations

import pytest

from medsynth_ray import registry
from medsynth_ray.contracts import GateContract
from medsynth_ray.protocols import ComponentConfig


class TestGates(GateContract):
    """A new file is tested without being named here."""

    @pytest.fixture(params=registry.names("gates"))
    def config(self, request: pytest.FixtureRequest) -> ComponentConfig:
        """Tiny settings of each component."""
        return registry.load("gates", request.param).Config.tiny()
