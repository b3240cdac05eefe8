"""Reads a sweep file: safe YAML 1.2, `extends`, overrides; every problem is told with file, line and nearest key.

What is read: one document of mappings, lists and the scalars of YAML 1.2's core schema (`no` is text, `1e-4` a number,
`010` ten). What is refused: duplicate keys, tags, merge keys (`extends` is there for that), files above 1 MiB, aliases
that blow up, unknown keys.

`extends: other.yaml` (a path relative to the file) merges the file over the other one: mappings are merged, everything
else is replaced, and null takes away what the other file says, so that the default holds again. An override
`key.sub=value` is merged in the same way over all files. Environment variables are not looked at.

Relative paths under `root` and `weights` are relative to the file that names them; in an override, to the current
directory. `store` is always relative to the current directory.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from medsynth_ray import registry
from medsynth_ray.config import SweepConfig
from medsynth_ray.errors import ConfigError
from medsynth_ray.schema import json_schema
from medsynth_ray.sections import DataConfig

__all__ = ["dump", "json_schema", "load", "load_dict"]

SWEEP = "sweep file"
MAX_BYTES = 1 << 20
MAX_VALUES = 10_000
"""Values of one file, those that its aliases stand for included."""
MAX_DEPTH = 32
MAX_EXTENDS = 8

_CORE_SCHEMA: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"|~|null|Null|NULL"), lambda text: None),
    (re.compile(r"true|True|TRUE"), lambda text: True),
    (re.compile(r"false|False|FALSE"), lambda text: False),
    (re.compile(r"[-+]?[0-9]{1,300}"), int),
    (re.compile(r"0o[0-7]{1,300}"), lambda text: int(text[2:], 8)),
    (re.compile(r"0x[0-9a-fA-F]{1,300}"), lambda text: int(text[2:], 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)
"""YAML 1.2.2, section 10.3.2: what an unquoted scalar means; anything else is text."""

_WEIGHTS_FILE = re.compile(r".*\.(safetensors|pth|pt|bin|onnx)")

Origins = dict[str, str]
"""Dotted place -> where it was written, `sweep.yaml:12`."""


def load(path: str | Path, overrides: Sequence[str] = (), *, components: bool = True) -> SweepConfig:
    """Read and validate a sweep file.

    Args:
        path: the sweep file.
        overrides: `key.sub=value`, later ones win.
        components: also check the settings of every component, which imports them (torch among it).

    Raises:
        ConfigError: the file cannot be read or is not allowed; names file, line, place and what is allowed.
    """
    values, origins = _layered(path, overrides)
    try:
        config = _validated(values)
        _check_data_keys(config)
        if components:
            config.check_components()
    except ConfigError as error:
        raise ConfigError("\n".join(_with_origin(line, origins) for line in str(error).splitlines())) from None
    return config


def load_dict(path: str | Path, overrides: Sequence[str] = (), *, kind: str = SWEEP) -> dict[str, Any]:
    """What a file says after `extends` and overrides, before defaults and validation; kind: what messages call it.

    Raises:
        ConfigError: the file cannot be read.
    """
    return _layered(path, overrides, kind)[0]


def dump(config: SweepConfig) -> str:
    """The resolved sweep file as YAML, defaults included, in the order of the config; `load` reads it back."""
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.width = 120
    writer.sort_base_mapping_type_on_output = False
    writer.representer.add_representer(str, _represent_text)
    buffer = io.StringIO()
    writer.dump(config.model_dump(mode="json"), buffer)
    return buffer.getvalue()


def _represent_text(representer: Any, text: str) -> Any:
    """Quote all text that a reader could take for something else: what `_scalar` resolves, and ruamel's own list."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", text) and _scalar(text) == text
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


# --- layers: files, then overrides -----------------------------------------------------------------------------------


def _layered(path: str | Path, overrides: Sequence[str], kind: str = SWEEP) -> tuple[dict[str, Any], Origins]:
    values, origins = _read_chain(Path(path), (), kind)
    for text in overrides:
        values = _merge(values, _override(text, origins))
    return values, origins


def _read_chain(path: Path, seen: tuple[Path, ...], kind: str) -> tuple[dict[str, Any], Origins]:
    """One file merged over what it extends."""
    here = path.resolve()
    if here in seen:
        raise ConfigError(f"extends goes round in a circle: {' -> '.join(p.name for p in (*seen, here))}")
    if len(seen) > MAX_EXTENDS:
        raise ConfigError(f"{path}: extends is chained more than {MAX_EXTENDS} files deep")
    values, origins = _read_file(path, kind)
    base = values.pop("extends", None)
    values = _absolute_paths(values, here.parent)
    if base is None:
        return values, origins
    if not isinstance(base, str):
        raise ConfigError(f"{origins['extends']}: extends must be the path of one file, got {base!r}")
    below, origins_below = _read_chain(path.parent / base, (*seen, here), kind)
    return _merge(below, values), {**origins_below, **origins}


def _read_file(path: Path, kind: str) -> tuple[dict[str, Any], Origins]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot read the {kind} {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes, which no {kind} is")
    reader = _Reader(text, str(path))
    values = reader.read()
    if values is None:
        hint = "; `medsynth init` writes one that works" if kind == SWEEP else ""
        raise ConfigError(f"{path}: the file is empty{hint}")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a {kind} is a mapping of keys, got a {type(values).__name__}")
    return values, reader.origins


def _override(text: str, origins: Origins) -> dict[str, Any]:
    key, equals, value_text = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"override {text!r}: expected key.sub=value")
    if parts == ["extends"]:
        raise ConfigError(f"override {text!r}: extends can only stand in a file")
    value = read_text(value_text, f"override {text!r}")
    place = ".".join(parts)
    for known in [p for p in origins if p == place or p.startswith(place + ".")]:
        del origins[known]
    origins[place] = f"override {text!r}"
    for part in reversed(parts):
        value = {part: value}
    values: dict[str, Any] = _absolute_paths(value, Path.cwd())
    return values


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged; null takes away a key of `below`; everything else replaces it. Neither is changed."""
    merged = dict(below)
    for key, value in above.items():
        if value is None and key in below:
            del merged[key]
        elif isinstance(value, dict) and isinstance(below.get(key), dict):
            merged[key] = _merge(below[key], value)
        else:
            merged[key] = value
    return merged


def _absolute_paths(value: Any, folder: Path, key: str = "") -> Any:
    """`value` with the relative local paths under `root`, `results` and `weights` taken from `folder`."""
    if isinstance(value, dict):
        return {k: _absolute_paths(v, folder, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_absolute_paths(v, folder) for v in value]
    is_path = key in ("root", "results") or (
        key.endswith("weights") and isinstance(value, str) and _WEIGHTS_FILE.fullmatch(value)
    )
    if is_path and isinstance(value, str) and "://" not in value:
        return str((folder / Path(value).expanduser()).resolve())
    return value


# --- validation ------------------------------------------------------------------------------------------------------


def _validated(values: dict[str, Any]) -> SweepConfig:
    try:
        return SweepConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(registry.explain(error, "", SweepConfig))) from None


def _check_data_keys(config: SweepConfig) -> None:
    """The adapter's fields stand beside those of `data`: the nearest name is looked for among both."""
    extra = config.data.model_extra
    if not extra:
        return
    fields = [*DataConfig.model_fields, *registry.load("data", config.data.adapter).Config.model_fields]
    unknown = [key for key in extra if key not in fields]
    if unknown:
        raise ConfigError("\n".join(registry.unknown_key(f"data.{key}", fields) for key in unknown))


def _with_origin(line: str, origins: Origins) -> str:
    """`mix.ratois: unknown key` -> `sweep.yaml:12: mix.ratois: unknown key`, by the longest known start."""
    parts = line.partition(": ")[0].split(".")
    while parts and ".".join(parts) not in origins:
        parts.pop()
    where = origins.get(".".join(parts))
    return f"{where}: {line}" if where else line


# --- YAML events to plain values -------------------------------------------------------------------------------------


def _scalar(text: str) -> Any:
    for pattern, make in _CORE_SCHEMA:
        if pattern.fullmatch(text):
            return make(text)
    return text


def read_text(text: str, name: str) -> Any:
    """The value that a piece of YAML spells, read as sweep files are; `name` is what messages call it.

    Raises:
        ConfigError: it is refused.
    """
    return _Reader(text, name).read()


class _Reader:
    """Builds plain values from the events of one text and remembers the line of every place.

    An alias gives the value that it stands for, not a copy, and counts as many values as that holds: a bomb is refused
    before anything expands it.
    """

    def __init__(self, text: str, name: str) -> None:
        self.origins: Origins = {}
        self._name, self._text = name, text
        self._events = YAML(typ="safe", pure=True).parse(text)
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._num_values = 0

    def read(self) -> Any:
        """The one document's value; None for an empty text. Raises ConfigError."""
        try:
            return self._document()
        except YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise ConfigError(f"{self._name}{where}: not valid YAML: {problem}") from None

    def _document(self) -> Any:
        next(self._events)
        if isinstance(next(self._events), StreamEndEvent):
            return None
        value = self._value(next(self._events), ())
        next(self._events)
        if not isinstance(event := next(self._events), StreamEndEvent):
            raise self._refusal(event, "a second document begins; a sweep file holds one")
        return value

    def _value(self, event: Any, place: tuple[str, ...]) -> Any:
        self.origins[".".join(place)] = self._where(event)
        if len(place) > MAX_DEPTH:
            raise self._refusal(event, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, AliasEvent):
            return self._alias(event)
        self._refuse_tag(event)
        before = self._num_values
        self._count(event, 1)
        if isinstance(event, ScalarEvent):
            value = _scalar(event.value) if event.implicit[0] else event.value
        else:
            value = self._mapping(place) if isinstance(event, MappingStartEvent) else self._sequence(place)
        if event.anchor:
            self._anchors[event.anchor] = (value, self._num_values - before)
        return value

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise self._refusal(event, f"alias *{event.anchor} stands for nothing that is complete before it")
        value, num_values = self._anchors[event.anchor]
        self._count(event, num_values)
        return value

    def _sequence(self, place: tuple[str, ...]) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            values.append(self._value(event, (*place, str(len(values)))))
        return values

    def _mapping(self, place: tuple[str, ...]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._key(event)
            if key in values:
                first = self.origins[".".join((*place, key))].rpartition(":")[2]
                raise self._refusal(event, f"duplicate key {key!r}, first on line {first}")
            values[key] = self._value(next(self._events), (*place, key))
            self.origins[".".join((*place, key))] = self._where(event)
        return values

    def _key(self, event: Any) -> str:
        if not isinstance(event, ScalarEvent):
            raise self._refusal(event, "a key must be plain text")
        self._refuse_tag(event)
        if event.value == "<<":
            raise self._refusal(event, "merge keys (<<) are not read; use `extends` or write the keys out")
        return str(event.value)

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            raise self._refusal(event, f"tags are not read, got {event.tag!r}")

    def _count(self, event: Any, num: int) -> None:
        self._num_values += num
        if self._num_values > MAX_VALUES:
            raise self._refusal(event, f"more than {MAX_VALUES} values, aliases counted for what they stand for")

    def _where(self, event: Any) -> str:
        return f"{self._name}:{event.start_mark.line + 1}"

    def _refusal(self, event: Any, why: str) -> ConfigError:
        return ConfigError(f"{self._where(event)}: {why}")
