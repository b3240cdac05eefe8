"""Every component found among the mixers, plug-ins included, keeps the contract of its role."""

from __future__ import annotations

import pytest

from medsynth_ray import registry
from medsynth_ray.contracts import MixerContract
from medsynth_ray.protocols import ComponentConfig


class TestMixers(MixerContract):
    """A new file is tested without being named here."""

    @pytest.fixture(params=registry.names("mixers"))
    def config(self, request: pytest.FixtureRequest) -> ComponentConfig:
        """Tiny settings of each component."""
        return registry.load("mixers", request.param).Config.tiny()
