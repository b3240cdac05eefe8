"""The JSON schema of a sweep file, for editors that complete and check while one types.

It is `SweepConfig`'s own schema, with every component's settings under `$defs` (`generators.gaussian`), tied to the
places where the component may be named.
"""

from __future__ import annotations

from typing import Any

from medsynth_ray import registry
from medsynth_ray.config import SweepConfig
from medsynth_ray.errors import ConfigError

Schema = dict[str, Any]

_LABELLED = (
    ("SweepConfig", "generators", "generators", "GeneratorArm"),
    ("SweepConfig", "gates", "gates", "Spec"),
    ("GeneratorArm", "gates", "gates", "Spec"),
    ("FitConfig", "metrics", "metrics", "Spec"),
    ("MixConfig", "mixers", "mixers", "Spec"),
)
"""Model, field, role, model of an entry: mappings from a label, by default a component's name, to its settings."""

_SINGLE = (
    ("GeneratorArm", "sampler", "samplers"),
    ("QualityConfig", "metric", "metrics"),
    ("QualityConfig", "space", "spaces"),
    ("MixConfig", "classifier", "classifiers"),
    ("ConfirmConfig", "classifier", "classifiers"),
)
"""Model, field, role: one component."""


def json_schema() -> Schema:
    """JSON schema of a sweep file. A component that cannot be imported here is listed with the reason."""
    schema = SweepConfig.model_json_schema()
    defs = schema["$defs"]
    for role in registry.ROLES:
        for name in registry.names(role):
            defs[f"{role}.{name}"] = _component(role, name, defs)
    models = {**defs, "SweepConfig": schema}
    for model, field, role, entry in _LABELLED:
        _replace(models[model]["properties"], field, _labelled(role, entry))
    for model, field, role in _SINGLE:
        _replace(models[model]["properties"], field, {"anyOf": [{"enum": registry.names(role)}, _spec(role, "Spec")]})
    step = {"anyOf": [{"enum": registry.names("preprocess")}, _spec("preprocess", "Spec")]}
    _replace(defs["DataConfig"]["properties"], "preprocess", {"type": "array", "items": step})
    for model in ("Spec", "GeneratorArm"):
        defs[model].pop("required")
    defs["DataConfig"] = _adapters(defs)
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Another sweep file, relative to this one, over which this one is merged.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _component(role: str, name: str, defs: Schema) -> Schema:
    """Settings of one component; the models that they nest join `defs`."""
    try:
        component = registry.load(role, name)
    except ConfigError as error:
        return {"title": name, "type": "object", "description": str(error)}
    own: Schema = component.Config.model_json_schema(ref_template=f"#/$defs/{role}.{name}.{{model}}")
    nested = own.pop("$defs", {})
    if "Spec" in nested:
        nested["Spec"] = {"anyOf": [{"type": "string"}, nested["Spec"]]}
    defs.update({f"{role}.{name}.{model}": shape for model, shape in nested.items()})
    return {**own, "title": name}


def _replace(properties: Schema, field: str, shape: Schema) -> None:
    """Put `shape` in place of the generated one, keeping description and default."""
    kept = {key: properties[field][key] for key in ("description", "default") if key in properties[field]}
    properties[field] = {**kept, **shape}


def _labelled(role: str, entry: str) -> Schema:
    """`{gaussian: {config: ...}}`, `{gaussian: null}`, `[gaussian]`; a label of one's own needs `use`."""
    nothing = {"type": "null"}
    by_name = {name: {"anyOf": [nothing, _spec(role, entry, name)]} for name in registry.names(role)}
    own_label = {"anyOf": [nothing, _spec(role, entry)]}
    as_mapping = {"type": "object", "properties": by_name, "additionalProperties": own_label}
    return {"anyOf": [as_mapping, {"type": "array", "items": {"enum": registry.names(role)}}, nothing]}


def _spec(role: str, entry: str, default: str | None = None) -> Schema:
    """A mapping with `use` and, beside other fields of `entry`, the `config` of the component that `use` names."""
    choices = [
        {**_where("use", name, default), "then": {"properties": {"config": {"$ref": f"#/$defs/{role}.{name}"}}}}
        for name in registry.names(role)
    ]
    use = {"properties": {"use": {"enum": registry.names(role)}}, "required": [] if default else ["use"]}
    return {"allOf": [{"$ref": f"#/$defs/{entry}"}, use, *choices]}


def _where(field: str, name: str, default: str | None) -> Schema:
    """Condition: `field` is `name`; a missing field counts as `default`."""
    return {"if": {"properties": {field: {"const": name}}, "required": [] if name == default else [field]}}


def _adapters(defs: Schema) -> Schema:
    """`data` with the fields of its adapter beside its own."""
    default = SweepConfig.model_fields["data"].default.adapter
    own = {key: value for key, value in defs["DataConfig"].items() if key != "additionalProperties"}
    choices = []
    for name in registry.names("data"):
        defs[f"data.{name}"].pop("additionalProperties", None)
        choices.append({**_where("adapter", name, default), "then": {"$ref": f"#/$defs/data.{name}"}})
    return {**own, "allOf": choices, "unevaluatedProperties": False}
