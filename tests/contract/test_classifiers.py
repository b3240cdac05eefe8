"""Every component found among the classifiers, plug-ins included, keeps the contract of its role."""

from __future__ import annotations

import pytest

from medsynth_ray import registry
from medsynth_ray.contracts import ClassifierContract
from medsynth_ray.protocols import ComponentConfig


class TestClassifiers(ClassifierContract):
    """A new file is tested without being named here."""

    @pytest.fixture(params=registry.names("classifiers"))
    def config(self, request: pytest.FixtureRequest) -> ComponentConfig:
        """Tiny settings of each component."""
        return registry.load("classifiers", request.param).Config.tiny()
