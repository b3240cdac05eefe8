"""The command line: thin. Every verb prints one JSON object on stdout with --json; all else goes to stderr.

Exit codes: 0 done, 2 usage or config, 3 audit, 4 budget reached (results valid), 5 some trials failed, 130 interrupted
but resumable (1: anything else that this package could tell).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsynth_ray import __version__
from medsynth_ray.evaluate_verb import register as register_evaluate
from medsynth_ray.readers_verbs import app as readers_app
from medsynth_ray.sweep_verbs import app as sweep_app
from medsynth_ray.terminal import (
    AsJson,
    MlflowUri,
    Port,
    Settings,
    SweepFile,
    Yes,
    estimate,
    exits,
    open_sweep,
    print_json,
    run_to_verdict,
    screen,
)
from medsynth_ray.weights_verbs import app as weights_app

if TYPE_CHECKING:
    from medsynth_ray.driver import Sweep
    from medsynth_ray.estimate import Estimate

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False,
    help="Which generator, which settings, how many synthetic images improve your classifier - and is the gain real?",
    epilog="Start: [bold]medsynth init MY_IMAGES[/bold], then audit, plan, run, report. Exit codes: 0 done, 2 config, "
    "3 audit, 4 budget reached, 5 some trials failed, 130 interrupted (run again to go on).",
)  # fmt: skip
app.add_typer(sweep_app, name="sweep")
app.add_typer(weights_app, name="weights")
app.add_typer(readers_app, name="readers")
register_evaluate(app)


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

    with exits(as_json):
        made = write_sweep_file(folder, output)
        if as_json:
            print_json(made)
        screen.print(f"Wrote {made['path']}: {made['images']} images of {len(made['classes'])} classes.")
        screen.print(f"Next: medsynth audit {made['path']}; medsynth plan {made['path']}; medsynth run {made['path']}")


@app.command(epilog="Example: medsynth audit sweeps/kermany_cxr.yaml -s data.root=/data/kermany_cxr")
def audit(sweep: SweepFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Check the images: files, copies, near duplicates, labels, groups, classes. Exit code 3: a sweep cannot run."""
    from medsynth_ray import show, yamlfile
    from medsynth_ray.data import dataset

    with exits(as_json):
        config = yamlfile.load(sweep, settings or [])
        with show.Running(screen) as bar:
            findings, summary = dataset.audit(config.data, config.split, progress=bar.data)
        stops = [f for f in findings if f.severity == "stop"]
        if as_json:
            print_json({**summary, "findings": [f.to_json() for f in findings], "usable": not stops})
        show.findings(screen, [f.to_json() for f in findings], summary)
    if stops:
        raise typer.Exit(3)


@app.command(epilog="Example: medsynth plan sweeps/quickstart.yaml")
def plan(sweep: SweepFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Say what a run would do: trials, time, and what difference can be detected. Starts nothing."""
    with exits(as_json):
        opened = open_sweep(sweep, settings)
        found = estimate(opened)
        if as_json:
            print_json(_estimate_json(opened, found))


@app.command(epilog="Example: medsynth run sweeps/quickstart.yaml --yes -s store=/data/store -s budget.hours=2")
def run(
    sweep: SweepFile,
    settings: Settings = None,
    yes: Yes = False,
    accept_underpowered: Annotated[
        bool, typer.Option(help="Run although the design cannot see verdict.effect.")
    ] = False,
    mlflow_uri: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Run a sweep to its verdict. Killed or stopped, the same command goes on where it was."""
    with exits(as_json):
        accepted = ["verdict.accept_underpowered=true"] if accept_underpowered else []
        opened = open_sweep(sweep, [*(settings or []), *accepted], mlflow_uri)
        run_to_verdict(opened, yes=yes, as_json=as_json)


@app.command(epilog="Example: medsynth status sweeps/quickstart.yaml --json")
def status(sweep: SweepFile, settings: Settings = None, as_json: AsJson = False) -> None:
    """Say how far a sweep is, and whether somebody runs it now."""
    from medsynth_ray import show

    with exits(as_json):
        state = open_sweep(sweep, settings).status()
        if as_json:
            print_json(state)
        show.status(screen, state)


@app.command(epilog="Example: medsynth report sweeps/quickstart.yaml -o report.html")
def report(
    sweep: SweepFile,
    settings: Settings = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Copy the page here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of what is recorded so far (one self-contained HTML file)."""
    with exits(as_json):
        opened = open_sweep(sweep, settings)
        result = opened.result()
        path = result.render(opened.command)
        if output is not None:
            output.write_bytes(opened.store.read(f"{opened.folder}/report.html") or b"")
            path = str(output)
        if as_json:
            print_json({"report": path, "verdict": result.verdict})
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

    with exits(as_json):
        made = write(open_sweep(sweep, settings).result(), arm, folder)
        if as_json:
            print_json(made)
        screen.print(
            f"{made['images']} images, {made['generator_parts']} fitted generator(s) in {made['folder']}",
            soft_wrap=True,
        )


@app.command(epilog="Example: medsynth ui sweeps/quickstart.yaml --port 5000")
def ui(
    sweep: SweepFile,
    settings: Settings = None,
    port: Port = 5000,
    browser: Annotated[bool, typer.Option(help="Open the charts in a browser.")] = True,
    mlflow_uri: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Mirror a sweep to MLflow where that is behind, serve MLflow on localhost, and open it in a browser."""
    from medsynth_ray import show

    with exits(as_json):
        opened = open_sweep(sweep, settings, mlflow_uri)
        state = opened.sync(port)
        if as_json:
            print_json(state)
        show.mirrored(screen, state)
        opened.serve(port, browser=browser)


@app.command(epilog="Example: medsynth doctor --store s3://bucket/sweeps")
def doctor(
    store: Annotated[str, typer.Option(help="Store to test with racing writers.")] = "medsynth-store",
    as_json: AsJson = False,
) -> None:
    """Check this machine and a store: versions, devices, Ray, MLflow, exclusive writes."""
    from medsynth_ray import show
    from medsynth_ray.doctor import check

    with exits(as_json):
        checks = check(store)
        if as_json:
            print_json({"checks": checks, "ok": all(c["ok"] for c in checks)})
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

    with exits(as_json):
        if schema:
            from medsynth_ray.schema import json_schema

            print_json(json_schema())
            return
        described = catalogue.describe(name)
        if as_json:
            print_json({"components": described})
        show.components(screen, described, detailed=name is not None)


def _estimate_json(opened: Sweep, estimate: Estimate) -> dict[str, Any]:
    return {
        "sweep": opened.sweep_id, "store": opened.store.url, "trials": estimate.trials, "done": estimate.done,
        "seconds_per_trial": estimate.seconds_per_trial, "basis": estimate.basis, "workers": estimate.workers,
        "power": estimate.power.to_json(), "counts": estimate.counts,
        "class_names": list(estimate.class_names), "sufficient": estimate.power.sufficient,
    }  # fmt: skip
