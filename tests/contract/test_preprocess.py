"""Every component found among the preprocessors, plug-ins included, keeps the contract of its role."""

from __future__ import annotations

import pytest

from medsynth_ray import registry
from medsynth_ray.contracts import PreprocessorContract
from medsynth_ray.protocols import ComponentConfig


class TestPreprocessors(PreprocessorContract):
    """A new file is tested without being named here."""

    @pytest.fixture(params=registry.names("preprocess"))
    def config(self, request: pytest.FixtureRequest) -> ComponentConfig:
        """Tiny settings of each component."""
        return registry.load("preprocess", request.param).Config.tiny()
