"""Finds components by name: `<role>/<name>.py` holds class `<Name>`. Plug-ins come by entry point, loaded when used."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from medsynth_ray.errors import ConfigError
from medsynth_ray.protocols import Component, ComponentConfig, Spec

ROLES = ("data", "spaces", "samplers", "generators", "gates", "metrics", "mixers", "classifiers")
"""Folders that hold components. In `data`, only adapters are components."""

_ADAPTERS = ("folder", "phantom")


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
    if role == "data":
        own = set(_ADAPTERS)
    else:
        package = importlib.import_module(f"medsynth_ray.{role}")
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
        found = plugin.load() if plugin else getattr(
            importlib.import_module(f"medsynth_ray.{role}.{name}"), class_name(name)
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
        allowed = list(component.Config.model_fields)
        raise ConfigError("\n".join(explain(error, where or f"{role}.{spec.use}", allowed))) from None
    assert isinstance(config, ComponentConfig)
    return config


def explain(error: ValidationError, where: str, allowed: list[str]) -> list[str]:
    """One line for each problem: the field, the value, what is allowed; the nearest name for an unknown key."""
    lines = []
    for item in error.errors(include_url=False):
        place = ".".join([where, *(str(part) for part in item["loc"])]).strip(".")
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            near = difflib.get_close_matches(key, allowed, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f" (allowed: {', '.join(sorted(allowed)) or 'none'})"
            lines.append(f"{place}: unknown key{hint}")
        else:
            lines.append(f"{place}: {item['msg']}, got {_short(item.get('input'))}")
    return lines


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _plugins(role: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"medsynth_ray.{role}")}
