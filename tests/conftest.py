"""The one sweep that several tests look at."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.runner import Runner

settings.register_profile("medsynth", deadline=None)  # a loaded machine is no fault of the code
settings.load_profile("medsynth")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests on one worker, and those that share the reference sweep together."""
    for item in items:
        group = "reference" if "reference" in getattr(item, "fixturenames", ()) else item.path.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A mini sweep that ran undisturbed on two workers."""
    runner = Runner(tmp_path_factory.mktemp("reference"))
    runner.run("runtime.workers=2")
    return runner
