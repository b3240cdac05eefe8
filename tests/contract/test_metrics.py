"""Every component found among the metrics, plug-ins included, keeps the contract of its role."""

from __future__ import annotations

import pytest

from medsynth_ray import registry
from medsynth_ray.contracts import MetricContract
from medsynth_ray.protocols import ComponentConfig


class TestMetrics(MetricContract):
    """A new file is tested without being named here."""

    @pytest.fixture(params=registry.names("metrics"))
    def config(self, request: pytest.FixtureRequest) -> ComponentConfig:
        """Tiny settings of each component."""
        return registry.load("metrics", request.param).Config.tiny()
