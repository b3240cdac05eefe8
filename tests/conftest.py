"""The one sweep that several tests look at."""

from __future__ import annotations

import pytest

from tests.runner import Runner


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A mini sweep that ran undisturbed on two workers."""
    runner = Runner(tmp_path_factory.mktemp("reference"))
    runner.run("runtime.workers=2")
    return runner
