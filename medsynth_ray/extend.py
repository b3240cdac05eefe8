"""Writes the sweep file that searches on where another one stopped: `medsynth sweep extend`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medsynth_ray import registry, yamlfile
from medsynth_ray.config import SweepConfig
from medsynth_ray.engine import search
from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import GeneratorConfig, Spec
from medsynth_ray.sections import SearchConfig


def extend(
    path: Path, overrides: Sequence[str], num_trials: int, *, generator: str | None = None, output: Path | None = None
) -> dict[str, Any]:
    """Write a sweep file that `extends` the one at `path` by `num_trials` settings for each generator searched.

    overrides: as given for the sweep at `path`; they are not written, and will be needed for the new one too.
    generator: only this one. output: default `<stem>-<settings in all>.yaml` beside it; one of the same text is kept.

    Returns:
        `path`, `extends`, and `generators`: label -> `method`, `before` and `after` (settings in all), and `known`, how
        many settings of the new search were proposed by the old one too. An optuna or random search goes on where it
        was; a grid is laid anew, finer.

    Raises:
        ConfigError: no such generator, none is searched, a grid has no further points, the file exists, or an override
            fixes the number of trials.
    """
    config = yamlfile.load(path, overrides)
    longer = {label: _longer(config, label, num_trials) for label in _searched(config, generator)}
    total = sum(arm.search.trials for arm in config.generators.values() if arm.search) + num_trials * len(longer)
    target = output or path.with_name(f"{path.stem}-{total}{path.suffix}")
    text = _text(path, target, longer)
    if target.exists() and target.read_text(encoding="utf-8") != text:
        raise ConfigError(f"{target} exists and says something else; name another file with -o")
    target.write_text(text, encoding="utf-8")
    _check(target, overrides, longer)
    return {"path": str(target), "extends": str(path), "generators": longer}


def _searched(config: SweepConfig, generator: str | None) -> list[str]:
    labels = [label for label, arm in config.generators.items() if arm.search is not None]
    if not labels:
        raise ConfigError("no generator of this sweep is searched; give one a `search`, e.g. {method: optuna}")
    if generator is None:
        return labels
    if generator not in labels:
        raise ConfigError(f"--generator {generator}: is not searched by this sweep (searched: {', '.join(labels)})")
    return [generator]


def _longer(config: SweepConfig, label: str, num_trials: int) -> dict[str, Any]:
    before = config.generators[label].search
    assert before is not None
    after = before.trials + num_trials
    known = before.trials if before.method != "grid" else _grid_known(config, label, before, after)
    return {"method": before.method, "before": before.trials, "after": after, "known": known}


def _grid_known(config: SweepConfig, label: str, before: SearchConfig, after: int) -> int:
    """How many points of the longer grid are points of the shorter one.

    Raises:
        ConfigError: it has no others.
    """
    arm = config.generators[label]
    settings = registry.configure("generators", Spec(use=arm.use, config=arm.config))
    assert isinstance(settings, GeneratorConfig)
    space = before.space if before.space is not None else settings.search_space()

    def points(trials: int) -> list[dict[str, Any]]:
        whole = SearchConfig(method="grid", trials=trials, batch=trials)
        return search.ask(whole, space, 0, [], 0)

    old, new = points(before.trials), points(after)
    known = sum(point in old for point in new)
    if known == len(new):
        raise ConfigError(f"generators.{label}.search: the grid has {len(new)} points up to {after}, all tried before")
    return known


def _text(path: Path, target: Path, longer: dict[str, dict[str, Any]]) -> str:
    base = os.path.relpath(path.resolve(), target.resolve().parent)
    lines = [f"# Made by `medsynth sweep extend`. Beside {path.name}, it searches on.", f"extends: {_quoted(base)}"]
    lines.append("generators:")
    lines += [f"  {label}: {{search: {{trials: {row['after']}}}}}" for label, row in longer.items()]
    return "\n".join(lines) + "\n"


def _check(target: Path, overrides: Sequence[str], longer: dict[str, dict[str, Any]]) -> None:
    config = yamlfile.load(target, overrides)
    for label, row in longer.items():
        found = config.generators[label].search
        if found is None or found.trials != row["after"]:
            raise ConfigError(
                f"generators.{label}.search.trials: an override sets it to {found and found.trials}, so {target} "
                f"cannot say {row['after']}; write it into the sweep file"
            )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
