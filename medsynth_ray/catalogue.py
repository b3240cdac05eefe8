"""Describes components from their own docstrings and settings, for `medsynth components`."""

from __future__ import annotations

import inspect
from typing import Any

from medsynth_ray import registry
from medsynth_ray.errors import ConfigError


def describe(name: str | None = None) -> list[dict[str, Any]]:
    """Every component, or those called `name`: role, name, summary, version, fields (name, default, description).

    Raises:
        ConfigError: no component has that name.
    """
    places = [(role, n) for role in registry.ROLES for n in registry.names(role) if name in (None, n)]
    if not places:
        everything = sorted({n for role in registry.ROLES for n in registry.names(role)})
        raise ConfigError(f"no component {name!r} (there are: {', '.join(everything)})")
    return [_describe(role, n) for role, n in places]


def _describe(role: str, name: str) -> dict[str, Any]:
    component = registry.load(role, name)
    fields = [
        {
            "name": field_name,
            "default": "(required)" if field.is_required() else field.get_default(call_default_factory=True),
            "description": " ".join((field.description or "").split()),
        }
        for field_name, field in component.Config.model_fields.items()
    ]  # fmt: skip
    doc = inspect.getdoc(component) or inspect.getdoc(inspect.getmodule(component)) or ""
    summary = " ".join(doc.split("\n\n")[0].split())
    return {"role": role, "name": name, "summary": summary, "version": component.version, "fields": fields}
