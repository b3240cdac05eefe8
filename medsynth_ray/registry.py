"""Finds components by name: `<role>/<name>.py` holds class `<Name>`. Plug-ins come by entry point, loaded when used.

Adapters are the components of the role `data`.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Component, ComponentConfig, Spec

ROLES = ("data", "preprocess", "spaces", "samplers", "generators", "gates", "metrics", "mixers", "classifiers")
_PACKAGES = {"data": "data.adapters", "preprocess": "data.preprocess"}
"""Where a role's components lie, if not in the folder of its name."""


def class_name(name: str) -> str:
    """`efficientnet_lite0` -> `EfficientnetLite0`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def names(role: str) -> list[str]:
    """Names of all components of a role, plug-ins included, sorted. Imports none of them.

    Raises:
        ConfigError: no such role.
    """
    if role not in ROLES:
        raise ConfigError(f"no role {role!r}; roles are {', '.join(ROLES)}")
    package = importlib.import_module(_package(role))
    own = {m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")}
    return sorted(own | set(_plugins(role)))


def load(role: str, name: str) -> type[Component]:
    """The component's class.

    Raises:
        ConfigError: no component of that name (the nearest is named), or its module cannot be imported.
    """
    if name not in names(role):
        near = difflib.get_close_matches(name, names(role), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"no {role} component {name!r}{hint} (there are: {', '.join(names(role))})")
    plugin = _plugins(role).get(name)
    try:
        found = (
            plugin.load() if plugin else getattr(importlib.import_module(f"{_package(role)}.{name}"), class_name(name))
        )
    except ImportError as error:
        origin = f" from {plugin.dist.name if plugin.dist else plugin.value}" if plugin else ""
        raise ConfigError(f"{role} component {name!r}{origin} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Component)):
        raise ConfigError(f"{role} component {name!r} is {found!r}, not a subclass of Component")
    return found


def configure(role: str, spec: Spec, *, where: str = "") -> ComponentConfig:
    """The validated settings of a component.

    Raises:
        ConfigError: the component or one of its settings is not known or not allowed; `where` is named in front.
    """
    component = load(role, spec.use)
    try:
        config = component.Config.model_validate(spec.config)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, where or f"{role}.{spec.use}", component.Config))) from None
    assert isinstance(config, ComponentConfig)
    return config


def explain(error: ValidationError, where: str, model: type[BaseModel]) -> list[str]:
    """One line for each problem of validating `model`: the place, the value, what is allowed; the nearest known key."""
    lines = []
    for item in error.errors(include_url=False):
        steps, kinds = _walk(model, item["loc"])
        place = ".".join([where, *steps]).strip(".")
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            lines.append(unknown_key(place, [name for kind in kinds for name in kind.model_fields]))
        elif item["type"] == "missing":
            lines.append(f"{place}: is missing")
        elif item["type"] == "value_error" and isinstance(item["input"], dict):
            lines.append(f"{place}: {message}" if place else message)
        else:
            lines.append(f"{place}: {message}, got {_short(item['input'])}")
    return lines


def unknown_key(place: str, allowed: Iterable[str]) -> str:
    """The message for the key at the dotted `place`: the nearest of `allowed`, or all of them."""
    names = sorted(set(allowed))
    near = difflib.get_close_matches(place.rpartition(".")[2], names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f" (allowed: {', '.join(names) or 'none'})"
    return f"{place}: unknown key{hint}"


def _walk(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], list[type[BaseModel]]]:
    """The steps of `loc` that stand in the input (pydantic adds tags of unions), and the models around the last one."""
    kinds: list[Any] = [model]
    steps = []
    for part in loc[:-1]:
        below = [child for kind in kinds for child in _children(kind, part)]
        if below:
            steps.append(str(part))
            kinds = below
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    last_is_tag = not models and not any(_children(kind, loc[-1]) for kind in kinds)
    return steps + ([] if last_is_tag or loc[-1:] == ("[key]",) else [str(part) for part in loc[-1:]]), models


def _children(kind: Any, part: int | str) -> list[Any]:
    """Types of what stands at `part` in a value of type `kind`, unions and annotations taken apart."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(part))
        return _alternatives(field.annotation) if field else []
    items = get_args(kind)
    if get_origin(kind) is dict and isinstance(part, str) and part != "[key]":
        return _alternatives(items[1])
    return _alternatives(items[0]) if get_origin(kind) in (list, tuple) and isinstance(part, int) else []


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [one for item in get_args(kind) for one in _alternatives(item)]
    return [kind]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _package(role: str) -> str:
    return f"medsynth_ray.{_PACKAGES.get(role, role)}"


@lru_cache
def _plugins(role: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"medsynth_ray.{role}")}
