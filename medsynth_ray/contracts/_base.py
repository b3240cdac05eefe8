"""What holds for every component: its settings, and runs that repeat."""

from __future__ import annotations

import ast
import inspect
import json
import random
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from medsynth_ray import registry
from medsynth_ray.contracts import _runs as runs
from medsynth_ray.images import ImageSet
from medsynth_ray.protocols import ComponentConfig, Need
from medsynth_ray.testing import LocalRuntime

MAX_TINY_S = 5.0
"""CPU seconds that one run with `tiny()` may take."""


class ConfigContract:
    """What every component's settings must do. Subclasses of the role contracts have it already."""

    @pytest.fixture
    def config(self) -> ComponentConfig:
        """The settings under test: override this."""
        pytest.fail("override the `config` fixture with the settings of your component")

    def test_config_refuses_an_unknown_key(self, config: ComponentConfig) -> None:
        """A typo is an error, never ignored."""
        with pytest.raises(ValidationError, match="no_such_key"):
            type(config).model_validate({**config.model_dump(mode="json"), "no_such_key": 1})

    def test_config_documents_every_field(self, config: ComponentConfig) -> None:
        """Each field has a docstring under it."""
        fields = type(config).model_fields
        assert [name for name, field in fields.items() if not (field.description or "").strip()] == []

    def test_config_survives_json(self, config: ComponentConfig) -> None:
        """Settings written to JSON and read again are equal, and `identity` is part of them."""
        assert type(config).model_validate_json(config.model_dump_json()) == config
        assert json.dumps(config.identity(), allow_nan=False)

    def test_config_is_frozen(self, config: ComponentConfig) -> None:
        """Settings cannot change after they entered a content key."""
        for name in list(type(config).model_fields)[:1]:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(config, name, getattr(config, name))

    def test_config_builds_its_component(self, config: ComponentConfig) -> None:
        """`build` makes the component, whose name is its file's, with a version."""
        component = config.build()
        assert isinstance(component, config.component)
        assert component.config == config
        assert component.version >= 1
        assert registry.class_name(config.component.__module__.rpartition(".")[2]) == config.component.__name__

    def test_needs_are_declared_as_data(self, config: ComponentConfig) -> None:
        """`needs` is static: a tuple of known kinds, the same at every call."""
        assert all(isinstance(need, get_args(Need)) for need in config.needs())
        assert config.needs() == config.needs()

    def test_module_imports_no_engine(self, config: ComponentConfig) -> None:
        """No import of ray or mlflow anywhere in the file, not even inside a function."""
        tree = ast.parse(Path(inspect.getfile(config.component)).read_text())
        names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
        names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert [name for name in names if name.partition(".")[0] in runs.ENGINES] == []


class RunContract(ConfigContract):
    """What every run of a component must do: repeat, wherever and after whatever it runs."""

    role: ClassVar[str]
    size_px: ClassVar[int] = 16
    """Side of the toy images."""

    @pytest.fixture
    def runtime(self) -> Any:
        """A runtime whose scratch folder is removed."""
        with closing(LocalRuntime()) as runtime:
            yield runtime

    def test_run_repeats_after_other_work(self, config: ComponentConfig) -> None:
        """Same seed, same bytes, whatever the global random state; which is left as it was."""
        first = runs.run_once(self.role, config, self.size_px)
        random.seed(99)
        np.random.seed(99)  # noqa: NPY002 - the global state is what is tested here
        before = _global_random_state()
        start = time.process_time()
        assert runs.run(self.role, config, self.size_px) == first
        assert time.process_time() - start < MAX_TINY_S
        assert _global_random_state() == before

    def test_run_repeats_in_another_process(self, config: ComponentConfig) -> None:
        """Same seed, same bytes, under another hash seed; neither ray nor mlflow is imported there."""
        elsewhere = runs.run_elsewhere(self.role, config, self.size_px)
        assert elsewhere["engines"] == []
        assert elsewhere["digest"] == runs.run_once(self.role, config, self.size_px)


def bytes_of(images: ImageSet) -> str:
    """Hash of the arrays as they are now; `fingerprint` remembers digests and would not see a write."""
    return runs.digest(images.pixels, images.labels, images.groups, images.ids)


def assert_plain_files(folder: Path) -> None:
    """Fail unless the folder holds config.json, and nothing but JSON and safetensors."""
    assert (folder / "config.json").is_file()
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".json", ".safetensors"}


def _global_random_state() -> str:
    torch = sys.modules.get("torch")
    states = [random.getstate(), np.random.get_state()]  # noqa: NPY002 - see above
    return runs.digest(repr(states), torch.get_rng_state().numpy() if torch else "")
