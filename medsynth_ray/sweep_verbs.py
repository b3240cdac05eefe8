"""`medsynth sweep ...`: what one does with sweeps that have run. Thin, as `cli.py` is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from medsynth_ray.terminal import (
    AsJson,
    MlflowUri,
    Port,
    Settings,
    SweepFile,
    Yes,
    exits,
    open_sweep,
    print_json,
    run_to_verdict,
    screen,
)

app = typer.Typer(no_args_is_help=True, help="Go on with sweeps that have run: retry, extend, compare, sync, gc.")

FAULTS = ("all", "diverged", "oom", "worker", "error")


class _BareFailed(TyperCommand):
    """`--failed` alone means `--failed=all`; an option of Typer always takes a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        following = [*args[1:], ""]
        spelt = [
            "--failed=all" if word == "--failed" and after not in FAULTS else word
            for word, after in zip(args, following, strict=True)
        ]
        return super().parse_args(ctx, spelt)


def _fault(value: str) -> str:
    if value not in FAULTS:
        raise typer.BadParameter(f"{value!r} is none of {', '.join(FAULTS)}")
    return value


@app.command(cls=_BareFailed, epilog="Example: medsynth sweep retry sweeps/quickstart.yaml --failed=worker")
def retry(
    sweep: SweepFile,
    failed: Annotated[
        str,
        typer.Option(
            metavar="[=CLASS]", callback=_fault,
            help="Which failed trials: diverged (its loss was NaN), oom, worker (the process died), error (anything "
            "else); --failed alone: all.",
        ),
    ] = "all",
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Run a sweep again, where of the failed trials only those of a class are tried again.

    A plain `run` tries all of them again but the diverged ones, which are a recorded result.
    """
    from medsynth_ray import show
    from medsynth_ray.retry import retry as again

    with exits(as_json):
        opened = open_sweep(sweep, settings)
        with show.Running(screen) as bar:
            done = again(
                opened, failed, progress=bar.data, on_schedule=bar.schedule, on_start=bar.start, on_end=bar.end
            )
        if as_json:
            print_json(done)
        show.retried(screen, done)
    if done["exit_code"]:
        raise typer.Exit(done["exit_code"])


@app.command(epilog="Example: medsynth sweep extend sweeps/quickstart.yaml --trials 8 --generator gaussian")
def extend(
    sweep: SweepFile,
    trials: Annotated[int, typer.Option(min=1, help="Settings to add to each generator that is searched.")],
    generator: Annotated[str | None, typer.Option(metavar="LABEL", help="Only this generator.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="New sweep file; default: SWEEP-<settings in all>.yaml.")
    ] = None,
    settings: Settings = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Search on: write a sweep file that extends this one by more settings, and run it in the same store.

    What is finished is used again. It is another sweep, so its confirm is another look at the locked test.
    """
    from medsynth_ray import show
    from medsynth_ray.extend import extend as written

    with exits(as_json):
        made = written(sweep, settings or [], trials, generator=generator, output=output)
        opened = open_sweep(Path(made["path"]), settings)
        made["reused"], made["looks_before"] = len(opened.recorded()), opened.looks()
        show.extended(screen, made)
        run_to_verdict(opened, yes=yes, as_json=as_json, more={"extended": made})


@app.command(epilog="Example: medsynth sweep compare sweeps/gaussian.yaml sweeps/vae.yaml")
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Sweep file.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another sweep file.", show_default=False)],
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show two sweeps side by side: verdicts, settings that differ, arms, generators, cost. Never evidence.

    Overrides (-s) hold for both.
    """
    from medsynth_ray import show
    from medsynth_ray.compare import compare as beside

    with exits(as_json):
        found = beside(open_sweep(first, settings), open_sweep(second, settings))
        if as_json:
            print_json(found)
        show.compared(screen, found)


@app.command(epilog="Example: medsynth sweep sync sweeps/quickstart.yaml --mlflow-uri http://mlflow:5000")
def sync(
    sweep: SweepFile,
    settings: Settings = None,
    port: Port = 5000,
    mlflow_uri: MlflowUri = None,
    as_json: AsJson = False,
) -> None:
    """Mirror to MLflow what is missing there, and end. Exit code 1: some runs are still behind.

    --port: where `medsynth ui` will serve, for the links.
    """
    from medsynth_ray import show

    with exits(as_json):
        state = open_sweep(sweep, settings, mlflow_uri).sync(port)
        if as_json:
            print_json(state)
        show.mirrored(screen, state)
    if state["behind"]:
        raise typer.Exit(1)


@app.command(epilog="Example: medsynth sweep gc sweeps/quickstart.yaml --dry-run --older-than-hours 0")
def gc(
    sweep: SweepFile,
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    older_than_hours: Annotated[float, typer.Option(min=0, help="Leave what was written since then.")] = 24,
    force: Annotated[
        bool, typer.Option("--force", help="Although a driver is at work in this store: what it writes may go.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what nothing can use from the store of a sweep, all its sweeps together.

    That is: attempts that no record names, checkpoints of fits that are finished, temporary files.
    """
    from medsynth_ray import show
    from medsynth_ray.engine.garbage import collect

    with exits(as_json):
        done = collect(open_sweep(sweep, settings).store, older_than_hours, dry_run=dry_run, force=force)
        if as_json:
            print_json(done)
        show.collected(screen, done)
