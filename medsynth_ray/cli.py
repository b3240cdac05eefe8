"""The command line: thin. Every verb prints one JSON object on stdout with --json; all else goes to stderr.

Exit codes: 0 done, 2 usage or config, 3 audit, 4 budget reached (results valid), 5 some trials failed, 130 interrupted
but resumable (1: anything else that this package could tell).
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from medsynth_ray import __version__
from medsynth_ray.errors import MedsynthError

if TYPE_CHECKING:
    from medsynth_ray.driver import Estimate, Sweep

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False,
    help="Which generator, which settings, how many synthetic images improve your classifier - and is the gain real?",
    epilog="Start: [bold]medsynth init MY_IMAGES[/bold], then audit, plan, run, report. Exit codes: 0 done, 2 config, "
    "3 audit, 4 budget reached, 5 some trials failed, 130 interrupted (run again to go on).",
)  # fmt: skip
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
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@contextlib.contextmanager
def _exits(as_json: bool) -> Iterator[None]:
    """Turn what the package raises into a message and an exit code."""
    try:
        yield
    except MedsynthError as error:
        _fail(type(error).__name__, str(error), error.exit_code, as_json)
    except KeyboardInterrupt:
        _fail("Interrupted", "interrupted; run the same command to go on", 130, as_json)


def _fail(kind: str, message: str, code: int, as_json: bool) -> None:
    if as_json:
        _print({"error": kind, "message": message, "exit_code": code})
    screen.print(f"[bold red]{kind}[/bold red]:", end=" ")
    screen.print(message, markup=False, soft_wrap=True)
    raise typer.Exit(code)


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")


def _open(path: Path, settings: list[str] | None, mlflow_uri: str | None = None) -> Sweep:
    from medsynth_ray.driver import Sweep

    more = [] if mlflow_uri is None else [f"tracking.mlflow_uri={mlflow_uri}"]
    return Sweep.from_yaml(path, [*(settings or []), *more])


def _agreed() -> bool:
    """Ask on stderr whether to go on; no answer is no."""
    try:
        return screen.input("Proceed? [y/N] ", markup=False).strip().lower() in ("y", "yes")
    except EOFError:
        return False


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Handle options that stand before a verb."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command(epilog="Example: medsynth init ~/images/fundus -o fundus.yaml")
def init(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder (or URL) with one subfolder for each class.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Sweep file to write.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look at a folder of images and write a working sweep file for it."""
    from medsynth_ray.scaffold import write_sweep_file

    with _exits(as_json):
        made = write_sweep_file(folder, output)
        if as_json:
            _print(made)
        screen.print(f"Wrote {made['path']}: {made['images']} images of {len(made['classes'])} classes.")
        screen.print(f"Next: medsynth audit {made['path']}; medsynth plan {made['path']}; medsynth run {made['path']}")


@app.command(epilog="Example: medsynth audit sweeps/kermany_cxr.yaml -s data.root=/data/kermany_cxr")
def audit(sweep: SweepFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Check the images: unreadable, copies, clashing labels, small classes, groups. Exit code 3: a sweep cannot run."""
    from medsynth_ray import show, yamlfile
    from medsynth_ray.data import dataset

    with _exits(as_json):
        config = yamlfile.load(sweep, settings or [])
        with show.Running(screen) as bar:
            findings, summary = dataset.audit(config.data, config.split, progress=bar.data)
        stops = [f for f in findings if f.severity == "stop"]
        if as_json:
            _print({**summary, "findings": [f.to_json() for f in findings], "usable": not stops})
        show.findings(screen, [f.to_json() for f in findings], summary)
    if stops:
        raise typer.Exit(3)


@app.command(epilog="Example: medsynth plan sweeps/quickstart.yaml")
def plan(sweep: SweepFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Say what a run would do: trials, time, and what difference can be detected. Starts nothing."""
    with _exits(as_json):
        opened = _open(sweep, settings)
        estimate = _estimate(opened)
        if as_json:
            _print(_estimate_json(opened, estimate))


@app.command(epilog="Example: medsynth run sweeps/quickstart.yaml --yes -s store=/data/store -s budget.hours=2")
def run(
    sweep: SweepFile,
    settings: Settings = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    accept_underpowered: Annotated[
        bool, typer.Option(help="Run although the design cannot see verdict.effect.")
    ] = False,
    mlflow_uri: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Run a sweep to its verdict. Killed or stopped, the same command goes on where it was."""
    from medsynth_ray import show

    with _exits(as_json):
        accepted = ["verdict.accept_underpowered=true"] if accept_underpowered else []
        opened = _open(sweep, [*(settings or []), *accepted], mlflow_uri)
        _estimate(opened)
        if not yes and not _agreed():
            if as_json:
                _print({"proceeded": False})
            raise typer.Exit(0)
        with show.Running(screen) as bar:
            result = opened.run(progress=bar.data, on_schedule=bar.schedule, on_start=bar.start, on_end=bar.end)
        verdict = result.verdict or {}
        if as_json:
            _print({"verdict": verdict, "report": result.report_path, "links": opened.links()})
        show.verdict(screen, verdict, result.report_path, opened.links(), opened.arguments)


@app.command(epilog="Example: medsynth status sweeps/quickstart.yaml --json")
def status(sweep: SweepFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Say how far a sweep is, and whether somebody runs it now."""
    from medsynth_ray import show

    with _exits(as_json):
        state = _open(sweep, settings).status()
        if as_json:
            _print(state)
        show.status(screen, state)


@app.command(epilog="Example: medsynth report sweeps/quickstart.yaml -o report.html")
def report(
    sweep: SweepFile,
    settings: Settings = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Copy the page here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of what is recorded so far (one self-contained HTML file)."""
    with _exits(as_json):
        opened = _open(sweep, settings)
        result = opened.result()
        path = result.render(opened.command)
        if output is not None:
            output.write_bytes(opened.store.read(f"{opened.folder}/report.html") or b"")
            path = str(output)
        if as_json:
            _print({"report": path, "verdict": result.verdict})
        screen.print(f"Report: {path}", soft_wrap=True)


@app.command(epilog="Example: medsynth export sweeps/quickstart.yaml gaussian+add@0.5 out/gaussian")
def export(
    sweep: SweepFile,
    arm: Annotated[str, typer.Argument(help="Arm or generator, as the report names it.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder.")],
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write an arm's synthetic images as an ImageFolder with metadata.csv, and its fitted generator."""
    from medsynth_ray.export import export as write

    with _exits(as_json):
        made = write(_open(sweep, settings).result(), arm, folder)
        if as_json:
            _print(made)
        screen.print(
            f"{made['images']} images, {made['generator_parts']} fitted generator(s) in {made['folder']}",
            soft_wrap=True,
        )


@app.command(epilog="Example: medsynth ui sweeps/quickstart.yaml --port 5000")
def ui(
    sweep: SweepFile,
    settings: Settings = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on localhost.")] = 5000,
    sync_only: Annotated[bool, typer.Option(help="Mirror what is missing and end.")] = False,
    mlflow_uri: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Mirror a sweep to MLflow where that is behind, and open MLflow on localhost."""
    with _exits(as_json):
        opened = _open(sweep, settings, mlflow_uri)
        state = opened.sync(f"http://127.0.0.1:{port}")
        if as_json:
            _print(state)
        screen.print(f"{state['mirrored']} runs mirrored, {state['behind']} behind")
        for name, link in state["links"].items():
            screen.print(f"  {name:8} {link}", soft_wrap=True)
        if not sync_only:
            opened.serve(port)


@app.command(epilog="Example: medsynth doctor --store s3://bucket/sweeps")
def doctor(
    store: Annotated[str, typer.Option(help="Store to test with racing writers.")] = "medsynth-store",
    as_json: AsJson = False,
) -> None:
    """Check this machine and a store: versions, devices, Ray, MLflow, exclusive writes."""
    from medsynth_ray import show
    from medsynth_ray.doctor import check

    with _exits(as_json):
        checks = check(store)
        if as_json:
            _print({"checks": checks, "ok": all(c["ok"] for c in checks)})
        show.checks(screen, checks)
    if not all(c["ok"] for c in checks):
        raise typer.Exit(1)


@app.command(epilog="Example: medsynth components gaussian; medsynth components --schema > sweep.schema.json")
def components(
    name: Annotated[str | None, typer.Argument(help="Show the settings of this component.")] = None,
    schema: Annotated[bool, typer.Option(help="JSON schema of a sweep file, for editors.")] = False,
    as_json: AsJson = False,
) -> None:
    """List components, or show one's settings."""
    from medsynth_ray import catalogue, show

    with _exits(as_json):
        if schema:
            from medsynth_ray.schema import json_schema

            _print(json_schema())
            return
        described = catalogue.describe(name)
        if as_json:
            _print({"components": described})
        show.components(screen, described, detailed=name is not None)


def _estimate(opened: Sweep) -> Estimate:
    from medsynth_ray import show

    with show.Running(screen) as bar:
        estimate = opened.estimate(bar.data)
    show.estimate(screen, opened, estimate)
    return estimate


def _estimate_json(opened: Sweep, estimate: Estimate) -> dict[str, Any]:
    return {
        "sweep": opened.sweep_id, "store": opened.store.url, "trials": estimate.trials, "done": estimate.done,
        "seconds_per_trial": estimate.seconds_per_trial, "basis": estimate.basis, "workers": estimate.workers,
        "power": estimate.power.to_json(), "counts": estimate.counts,
        "class_names": list(estimate.class_names), "sufficient": estimate.power.sufficient,
    }  # fmt: skip
