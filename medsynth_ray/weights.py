"""Where weights are on this machine: names for files, one YAML file, nothing downloaded unless asked.

A component's `weights` is a path or a name. A name is looked up in the user's file ($MEDSYNTH_WEIGHTS, or
~/.config/medsynth/weights.yaml) and then among those that this package knows; its file is where the entry's `path`
says, or, once `medsynth weights pull` has brought it, in ~/.cache/medsynth/weights/<sha256>/.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medsynth_ray import registry, yamlfile
from medsynth_ray.errors import ConfigError, WeightsMissing
from medsynth_ray.weights_catalogue import CATALOGUE, UNKNOWN_LICENCE
from medsynth_ray.weights_remote import HUB, check_uri, from_hub, online, redacted, redacted_text

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
_BLOCK_BYTES = 1 << 22


class Entry(BaseModel):
    """One name of the registry: where the file is or comes from, and what vouches for it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    path: str | None = None
    """A file of this machine."""
    uri: str | None = None
    """An fsspec URL: https://..., s3://... ."""
    hub: str | None = Field(default=None, pattern=f"^{HUB.pattern}$")
    """`owner/repo:filename` on the Hugging Face hub; `owner/repo@revision:filename` for one revision of it."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """Of the file; None: not known before the first pull."""
    licence: str = UNKNOWN_LICENCE
    note: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> Entry:
        given = [name for name in ("path", "uri", "hub") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of path, uri and hub, got {' and '.join(given) or 'none'}")
        if self.path is None and self.filename in ("", ".", ".."):
            raise ValueError(f"{self.where} names no file")
        if self.uri is not None:
            check_uri(self.uri, pinned=self.sha256 is not None)
        return self

    @property
    def where(self) -> str:
        """Its place, to be shown: a user, a token and a query of a URL are left out."""
        return self.path or (f"hub:{self.hub}" if self.uri is None else redacted(self.uri))

    @property
    def filename(self) -> str:
        """The last part of its place."""
        return re.split(r"[/:]", re.split(r"[?#]", self.path or self.uri or self.hub or "")[0])[-1]

    @property
    def file(self) -> Path:
        """Where it is on this machine, if it is there; a relative `path` is relative to the user's file."""
        if self.path:
            return registry_file().parent / Path(self.path).expanduser()
        return cache_folder() / (self.sha256 or "unknown") / self.filename


# --- places ----------------------------------------------------------------------------------------------------------


def registry_file() -> Path:
    """The user's YAML file; it need not exist."""
    named = os.environ.get("MEDSYNTH_WEIGHTS")
    return Path(named).expanduser() if named else _xdg("XDG_CONFIG_HOME", ".config") / "medsynth" / "weights.yaml"


def cache_folder() -> Path:
    """Where pulled weights lie, `<sha256>/<filename>` each."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "medsynth" / "weights"


def _xdg(variable: str, below_home: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / below_home)


# --- the registry ----------------------------------------------------------------------------------------------------


def entries() -> dict[str, Entry]:
    """All names: the user's, then those of this package that the user's file does not say.

    Raises:
        ConfigError: the file cannot be read, or an entry is wrong.
    """
    return {**{name: Entry.model_validate(values) for name, values in CATALOGUE.items()}, **_own_entries()}


def _own_entries() -> dict[str, Entry]:
    path = registry_file()
    if not path.exists():
        return {}
    found = {}
    for name, values in yamlfile.load_dict(path, kind="registry of weights").items():
        _check_name(str(name), f"{path}: ")
        try:
            found[str(name)] = Entry.model_validate(values)
        except ValidationError as error:
            raise ConfigError("\n".join(registry.explain(error, f"{path}: {name}", Entry))) from None
    return found


def entry(name: str) -> Entry:
    """One entry.

    Raises:
        ConfigError: no such name (the nearest is named), or the file is wrong.
    """
    known = entries()
    if name not in known:
        raise ConfigError(f"no weights named {name!r}{_nearest(name, known)}; `medsynth weights list` lists all")
    return known[name]


def add(
    name: str,
    place: str,
    *,
    sha256: str | None = None,
    licence: str | None = None,
    note: str | None = None,
    replace: bool = False,
) -> Entry:
    """Write an entry to the user's file, replacing one of that name; the sha256 of a local file is computed.

    place: a local path, an fsspec URL, or `hub:owner/repo:filename`. sha256: what the file must have; None: what the
    name had before, if that is known and not `replace`. licence, note: None keeps them where the sha256 is the same.

    Raises:
        ConfigError: a name or place that cannot be, no such file, or a file that has another sha256.
    """
    _check_name(name)
    with _locked():
        made = _made(name, place, {"sha256": sha256, "licence": licence, "note": note}, replace)
        _write({**_own_entries(), name: made})
    return made


def _made(name: str, place: str, given: dict[str, str | None], replace: bool) -> Entry:
    """The new entry of `name`."""
    before = entries().get(name)
    pinned = before.sha256 if before and not replace else None
    sha256 = given["sha256"]
    if place.startswith("hub:"):
        located = {"hub": place.removeprefix("hub:")}
    elif "://" in place:
        located = {"uri": place}
    else:
        path = Path(place).expanduser().resolve()
        if not path.is_file():
            raise ConfigError(f"weights file {str(path)!r} does not exist")
        located, found = {"path": str(path)}, _checked_sha256(path, sha256)
        if sha256 is None and pinned not in (None, found):
            raise ConfigError(
                f"weights {name!r} have sha256 {pinned}, but {str(path)!r} has {found}; if you vouch for the new file, "
                f"add it with --replace, or with --sha256 {found}"
            )
        sha256 = found
    sha256 = sha256 or pinned
    same = before is not None and sha256 is not None and before.sha256 == sha256
    known = {"licence": before.licence, "note": before.note} if before and same else {}
    said = {k: v for k, v in {**given, "sha256": sha256}.items() if v is not None}
    try:
        return Entry.model_validate({**known, **located, **said})
    except ValidationError as error:
        raise ConfigError("\n".join(registry.explain(error, name, Entry))) from None


@contextmanager
def _locked() -> Iterator[None]:
    """Nobody else changes the user's file meanwhile."""
    path = registry_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600  # who may write the file may lock it
    with FileLock(path.with_name(f".{path.name}.lock"), mode=mode):
        yield


def _check_name(name: str, where: str = "") -> None:
    if not _NAME.fullmatch(name) or name == "extends":
        raise ConfigError(
            f"{where}weights name {name!r}: allowed are up to 60 of a-z, 0-9, _ and -, the first a letter or digit"
        )


def _checked_sha256(path: Path, expected: str | None) -> str:
    found = file_sha256(path)
    if expected not in (None, found):
        raise ConfigError(f"weights file {str(path)!r}: sha256 is {found}, expected {expected}")
    return found


def _write(known: Mapping[str, Entry]) -> None:
    """The user's file as YAML whose texts are JSON texts; complete or not at all.

    A new one is the user's alone, for URLs may hold tokens; one that is there keeps its mode.
    """
    blocks = []
    for name, one in sorted(known.items()):
        values = one.model_dump(exclude_none=True, exclude_defaults=True)
        blocks.append(
            "\n".join([f'"{name}":', *(f"  {k}: {json.dumps(v, ensure_ascii=False)}" for k, v in values.items())])
        )
    path = registry_file()
    temporary = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write("\n".join(blocks) + "\n")
    if path.exists():
        temporary.chmod(path.stat().st_mode & 0o777)
    os.replace(temporary, path)


# --- use -------------------------------------------------------------------------------------------------------------


def resolve(name: str) -> Path:
    """The file that `name`, a path or a registered name, stands for; a registered one is checked by its sha256.

    Raises:
        WeightsMissing: no such file or name, the file was not pulled, or it is another one than was registered.
        ConfigError: the user's file is wrong.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = entries()
    if name not in known:
        what = "is a folder, but weights are one file" if path.is_dir() else "does not exist"
        raise WeightsMissing(
            f"weights file {name!r} {what}, and no weights of that name are registered{_nearest(name, known)}; "
            "`medsynth weights list` lists names, `medsynth weights add NAME FILE` registers a file"
        )
    return _registered_file(name, known[name])


def _registered_file(name: str, found: Entry) -> Path:
    if not found.file.is_file():
        raise WeightsMissing(f"weights {name!r} are not on this machine: {remedy(name, found)}")
    if found.sha256 is not None and (sha256 := file_sha256(found.file)) != found.sha256:
        raise WeightsMissing(
            f"weights {name!r}: {found.file} has sha256 {sha256}, registered is {found.sha256}; bring the file back, "
            f"or if you vouch for the new one: {_add_command(name, f'{found.file} --replace')}"
        )
    return found.file


def _nearest(name: str, known: Mapping[str, Entry]) -> str:
    near = difflib.get_close_matches(Path(name).stem or name, sorted(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def remedy(name: str, found: Entry) -> str:
    """What to do where the file of an entry is not on this machine."""
    if found.path:
        return f"{found.path} is gone; if it is elsewhere: {_add_command(name)}"
    return (
        f"`medsynth weights pull {name}` brings them from {found.where}; or copy the file here and {_add_command(name)}"
    )


def _add_command(name: str, file: str = "FILE") -> str:
    return f"`medsynth weights add {name} {file}`"


def file_sha256(path: Path) -> str:
    """sha256 of a local file; read again only when its size or time of change moved."""
    state = path.stat()
    return _file_sha256(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- download --------------------------------------------------------------------------------------------------------


def pull(name: str) -> dict[str, Any]:
    """Bring a registered file to this machine, checked; where no sha256 was known, this one is trusted and recorded.

    Returns:
        `name`, `path`, `sha256`, `num_bytes`; `pulled`: False if it was there; `first_use`: the sha256 was not known.

    Raises:
        ConfigError: no such name, an entry that is a local file, or a file that has another sha256.
        WeightsMissing: it cannot be downloaded, or this machine is offline.
    """
    found = entry(name)
    if found.path:
        return {**_pulled(name, _registered_file(name, found)), "pulled": False, "first_use": False}
    if found.sha256 and found.file.is_file() and file_sha256(found.file) == found.sha256:
        return {**_pulled(name, found.file), "pulled": False, "first_use": False}
    with _source(name, found) as source:
        path = stored(source, cache_folder(), found.filename, sha256=found.sha256, what=f"weights {name!r}")
    if found.sha256 is None:
        _record_sha256(name, found, path.parent.name)
    return {**_pulled(name, path), "pulled": True, "first_use": found.sha256 is None}


def _record_sha256(name: str, found: Entry, sha256: str) -> None:
    """Of what came; a ConfigError where the name was changed meanwhile."""
    with _locked():
        recorded = found.model_copy(update={"sha256": sha256})
        if entries().get(name) not in (found, recorded):
            raise ConfigError(f"weights {name!r} were changed in {registry_file()} while they were pulled; pull again")
        _write({**_own_entries(), name: recorded})


def _pulled(name: str, path: Path) -> dict[str, Any]:
    return {"name": name, "path": str(path), "sha256": file_sha256(path), "num_bytes": path.stat().st_size}


def stored(source: BinaryIO, cache: Path, filename: str, *, sha256: str | None, what: str) -> Path:
    """Stream a file to `<cache>/<its sha256>/<filename>`; complete or not at all, so that several may race.

    sha256: what it must be; None: whatever it is. what: for the message.

    Raises:
        ConfigError: it is another one.
    """
    cache.mkdir(parents=True, exist_ok=True)
    temporary = cache / f".tmp-{uuid.uuid4().hex}"
    sha = hashlib.sha256()
    try:
        with temporary.open("xb") as target:
            while block := source.read(_BLOCK_BYTES):
                sha.update(block)
                target.write(block)
        found = sha.hexdigest()
        if sha256 not in (None, found):
            raise ConfigError(f"{what}: what came has sha256 {found}, expected {sha256}; it was thrown away")
        path = cache / found / filename
        path.parent.mkdir(exist_ok=True)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


@contextmanager
def _source(name: str, found: Entry) -> Iterator[BinaryIO]:
    """The remote file, opened. Whatever goes wrong while it is read is told with what to do."""
    import fsspec

    try:
        with open(from_hub(found.hub), "rb") if found.hub else fsspec.open(online(found.uri or ""), "rb") as source:
            yield source
    except ConfigError:
        raise
    except Exception as error:  # every protocol has errors of its own
        said = f"{type(error).__name__}: {redacted_text(str(error), found.uri or '')}"
        raise WeightsMissing(
            f"weights {name!r} cannot be downloaded from {found.where}: {said}. "
            f"Copy the file {found.filename} to this machine by hand, then {_add_command(name)}"
        ) from None  # its own text may hold a token of the URL


# --- a look ----------------------------------------------------------------------------------------------------------


def listing() -> list[dict[str, Any]]:
    """A row for each name, sorted: name, where, file, there, num_bytes, sha256, licence, note, own (user's file).

    Raises:
        ConfigError: the user's file is wrong.
    """
    own = _own_entries()
    return [
        {
            "name": name, "where": one.where, "file": str(one.file) if one.file.is_file() else None,
            "there": one.file.is_file(), "num_bytes": one.file.stat().st_size if one.file.is_file() else None,
            "sha256": one.sha256, "licence": one.licence, "note": one.note, "own": name in own,
        }
        for name, one in sorted(entries().items())
    ]  # fmt: skip
