"""Scratch folders of runtimes go where pytest cleans up."""

from __future__ import annotations

import tempfile

import pytest


@pytest.fixture(autouse=True)
def scratch_in_tmp_path(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("scratch")))
