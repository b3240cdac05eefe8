"""`medsynth weights ...`: which weights there are, and where. Thin, as `cli.py` is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsynth_ray.terminal import AsJson, exits, print_json, screen

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(no_args_is_help=True, help="Names for weights files: list, add, check, pull.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Registered name, as in `weights: NAME`.")]
_COLOURS = {"ok": "green", "missing": "yellow", "changed": "bold red", "unreadable": "bold red"}


@app.command("list", epilog="Example: medsynth weights list --json")
def list_(as_json: AsJson = False) -> None:
    """List names with where they come from, whether they are here, their sha256 and licence. Reads no file."""
    from medsynth_ray import weights

    with exits(as_json):
        rows = weights.listing()
        if as_json:
            print_json(
                {"weights": rows, "registry": str(weights.registry_file()), "cache": str(weights.cache_folder())}
            )
        columns = ("name", "here", "MB", "sha256", "licence", "where")
        screen.print(_table(columns, [_listed(row) for row in rows]))
        screen.print(f"Yours: {weights.registry_file()}; pulled: {weights.cache_folder()}", soft_wrap=True)


@app.command(epilog="Example: medsynth weights add rad_dino ~/weights/rad-dino.safetensors --licence msrla")
def add(
    name: Name,
    place: Annotated[
        str, typer.Argument(metavar="PATH|URI|hub:OWNER/REPO:FILE", help="A local file, a URL, or a file of the hub.")
    ],
    licence: Annotated[str | None, typer.Option(help="What its authors allow.")] = None,
    sha256: Annotated[str | None, typer.Option(help="What the file's sha256 must be.")] = None,
    note: Annotated[str | None, typer.Option(help="What you want to remember.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="The name may stand for another file than before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give weights a name, in place of what it stood for; the sha256 of a local file is recorded."""
    from medsynth_ray import weights

    with exits(as_json):
        made = weights.add(name, place, sha256=sha256, licence=licence, note=note, replace=replace)
        if as_json:
            shown = made.model_dump(exclude={"uri"})
            print_json({"name": name, "registry": str(weights.registry_file()), "where": made.where, **shown})
        vouched = made.sha256 or "not known yet: the first pull records it"
        screen.print(f"{name}: {made.where}\nsha256   {vouched}\nlicence  {made.licence}", markup=False, soft_wrap=True)


@app.command(epilog="Example: medsynth weights check dinov2_vits14")
def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Default: all whose file is here.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read files anew: their sha256 and their tensors.

    Exit code 2: one is not what was registered, cannot be read, or was named and is missing.
    """
    from medsynth_ray import weights
    from medsynth_ray.weights_check import check as look_at

    with exits(as_json):
        rows = [look_at(name) for name in names or [r["name"] for r in weights.listing() if r["there"]]]
        if as_json:
            print_json({"weights": rows, "ok": all(row["state"] == "ok" for row in rows)})
        screen.print(_table(("name", "state", "tensors", "what"), [_checked(row) for row in rows]))
    if any(row["state"] != "ok" for row in rows):
        raise typer.Exit(2)


@app.command(epilog="Example: medsynth weights pull dinov2_vits14 inception_v3_fid")
def pull(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Registered names.")], as_json: AsJson = False
) -> None:
    """Download registered weights to this machine's cache and check their sha256."""
    from medsynth_ray import weights

    with exits(as_json):
        rows = []
        for name in names:
            row = weights.pull(name)
            rows.append(row)
            screen.print(f"{name}: {row['path']} ({'pulled' if row['pulled'] else 'was here'})", soft_wrap=True)
            if row["first_use"]:
                screen.print(
                    f"Nobody had said which sha256 {name} must have. What came has {row['sha256']}, which is trusted "
                    f"from now on and recorded in {weights.registry_file()}.",
                    style="yellow", soft_wrap=True,
                )  # fmt: skip
        if as_json:
            print_json({"weights": rows})


def _listed(row: dict[str, Any]) -> tuple[str, ...]:
    size = "-" if row["num_bytes"] is None else f"{row['num_bytes'] / 1e6:,.1f}"
    here = "[green]yes[/]" if row["there"] else "no"
    return (row["name"], here, size, (row["sha256"] or "-")[:12], _text(row["licence"]), _text(row["where"]))


def _checked(row: dict[str, Any]) -> tuple[str, ...]:
    num = "-" if row["num_tensors"] is None else f"{row['num_tensors']:,}"
    return (row["name"], f"[{_COLOURS[row['state']]}]{row['state']}[/]", num, _text(row["said"]))


def _text(value: str) -> str:
    from rich.markup import escape

    return escape(value)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table
