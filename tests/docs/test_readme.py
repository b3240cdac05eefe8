"""What README.md says of Python is run as it is printed there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from medsynth_ray import yamlfile
from medsynth_ray.cli import app
from medsynth_ray.engine import tune
from medsynth_ray.errors import MedsynthError
from medsynth_ray.readers_verbs import app as readers_verbs
from medsynth_ray.sweep_verbs import app as sweep_verbs
from medsynth_ray.weights_verbs import app as weights_verbs
from tests.engine.inline import config
from tests.engine.without_ray import WithoutRay

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture(scope="module")
def block() -> str:
    """The Python of README.md."""
    (found,) = re.findall(r"From Python:\n\n```python\n(.*?)```", README, re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def values(block: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The value of every line of it that is an expression, by its text; its sweep is a tiny one."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "mine.yaml").write_text(json.dumps(config(folder / "store").model_dump(mode="json")))
    names: dict[str, Any] = {}
    found = {"folder": folder}
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(tune, "run", WithoutRay().run)
        for line in ast.parse(block).body:
            if isinstance(line, ast.Expr):
                found[ast.unparse(line)] = eval(ast.unparse(line), names)
            else:
                exec(ast.unparse(line), names)
    return found | {"names": names}


def test_the_block_is_about_ten_lines(block: str) -> None:
    assert 10 <= len([line for line in block.splitlines() if line.strip() and "import" not in line]) <= 12


def test_every_line_says_what_it_promises(values: dict[str, Any]) -> None:
    result = values["names"]["result"]
    assert set(values["sweep.estimate().trials"]) == {"fit", "pool", "mix", "confirm"}
    assert values["sweep.estimate().power.detectable"] > 0
    assert values["result.verdict['sentence']"].startswith("Cannot tell")
    assert set(values["result.arms"]["phase"]) == {"mix", "confirm"}
    (row,) = [row for row in values["result.generators()"] if row["label"] == "gaussian"]
    assert {number["name"] for number in row["measured"]} >= {"kid_efficientnet_lite0"}
    images = values["result.pool('gaussian+add@0.5').images"]
    assert images.pixels.dtype == "uint8"
    assert images.pixels.ndim == 4
    assert values["export(result, 'gaussian+add@0.5', Path('out'))"]["images"] == len(images)
    assert (values["folder"] / "out" / "images" / "metadata.csv").exists()
    assert values["sweep.status()['state']"] == "finished"
    assert Path(values["result.report_path"]).exists()
    assert result.verdict["sweep"] == values["names"]["sweep"].sweep_id


def _verbs(app: typer.Typer) -> set[str]:
    return {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}


def test_every_verb_that_is_named_is_there() -> None:
    verbs = _verbs(app)
    groups = {"sweep": _verbs(sweep_verbs), "weights": _verbs(weights_verbs), "readers": _verbs(readers_verbs)}
    named = set(re.findall(r"(?:^|`|&& )medsynth (\w+)(?: (\w+))?", README, re.MULTILINE))
    assert {verb for verb, _ in named} <= verbs | set(groups)
    assert {verb for group, verb in named if group == "sweep"} == groups["sweep"]
    assert groups["sweep"] == {"retry", "extend", "compare", "sync", "gc"}
    assert {(group, verb) for group, verb in named if group in groups and verb not in groups[group]} == set()
    assert {"evaluate", "weights", "readers"} <= {verb for verb, _ in named}


def test_the_exit_codes_are_those_of_the_errors() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \| ", README, re.MULTILINE)}
    kinds = MedsynthError.__subclasses__()
    assert {kind.exit_code for kind in kinds} | {0, 130} == codes


def test_the_output_of_the_quickstart_names_the_sweep_of_today() -> None:
    path = Path(__file__).parents[2] / "sweeps" / "quickstart.yaml"
    assert re.findall(r"quickstart-[0-9a-f]{8}", README) == [yamlfile.load(path, []).sweep_id] * 2
