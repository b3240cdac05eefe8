"""What the verbs of the command line share: their common options, exit codes, questions, and one JSON object."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from medsynth_ray.errors import ConfigError, MedsynthError

if TYPE_CHECKING:
    from medsynth_ray.driver import Sweep
    from medsynth_ray.estimate import Estimate

screen = Console(stderr=True, highlight=False)

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="Sweep file (YAML).", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "-s", "--set", metavar="KEY=VALUE", help="Override a setting: -s data.root=/data/isic -s store=s3://b/x"
    ),
]
MlflowUri = Annotated[
    str | None, typer.Option("--mlflow-uri", metavar="URI", help="MLflow tracking server, or sqlite:///file.")
]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port on localhost.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@contextlib.contextmanager
def exits(as_json: bool) -> Iterator[None]:
    """Turn what the package raises into a message and an exit code."""
    try:
        yield
    except MedsynthError as error:
        _fail(type(error).__name__, str(error), error.exit_code, as_json)
    except KeyboardInterrupt:
        _fail("Interrupted", "interrupted; run the same command to go on", 130, as_json)


def _fail(kind: str, message: str, code: int, as_json: bool) -> None:
    if as_json:
        print_json({"error": kind, "message": message, "exit_code": code})
    screen.print(f"[bold red]{kind}[/bold red]:", end=" ")
    screen.print(message, markup=False, soft_wrap=True)
    raise typer.Exit(code)


def check_new_file(path: Path | None) -> None:
    """Look whether a file can be written, before the work that it is to hold.

    Raises:
        ConfigError: it is there already, or its folder is not.
    """
    if path is None:
        return
    if path.exists():
        raise ConfigError(f"{path} is there already; name a new file")
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(f"{path} cannot be written: nothing may be written to the folder {path.parent}")


def print_json(value: dict[str, Any]) -> None:
    """The one object on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def open_sweep(path: Path, settings: list[str] | None, mlflow_uri: str | None = None) -> Sweep:
    """The sweep of a file and its overrides.

    Raises:
        ConfigError: the file, a key or a value is wrong.
    """
    from medsynth_ray.driver import Sweep

    more = [] if mlflow_uri is None else [f"tracking.mlflow_uri={mlflow_uri}"]
    return Sweep.from_yaml(path, [*(settings or []), *more])


def agreed() -> bool:
    """Ask on stderr whether to go on; no answer is no."""
    try:
        return screen.input("Proceed? [y/N] ", markup=False).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def estimate(opened: Sweep) -> Estimate:
    """What a run would do, shown as tables."""
    from medsynth_ray import show

    with show.Running(screen) as bar:
        found = opened.estimate(bar.data)
    show.estimate(screen, opened, found)
    return found


def run_to_verdict(opened: Sweep, *, yes: bool, as_json: bool, more: dict[str, Any] | None = None) -> None:
    """Estimate, ask, run, and say the verdict; `more` goes into the JSON object.

    Raises:
        MedsynthError: as `Sweep.run` does.
    """
    from medsynth_ray import show

    estimate(opened)
    if not yes and not agreed():
        if as_json:
            print_json({"proceeded": False, **(more or {})})
        raise typer.Exit(0)
    with show.Running(screen) as bar:
        result = opened.run(progress=bar.data, on_schedule=bar.schedule, on_start=bar.start, on_end=bar.end)
    verdict = result.verdict or {}
    if as_json:
        print_json({"verdict": verdict, "report": result.report_path, "links": opened.links(), **(more or {})})
    show.verdict(screen, verdict, result.report_path, opened.links(), opened.arguments)
