"""`medsynth readers ...`: can people tell an arm's images from real ones, and do they see what the labels say?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsynth_ray.terminal import AsJson, Settings, SweepFile, check_new_file, exits, open_sweep, print_json, screen

if TYPE_CHECKING:
    from medsynth_ray.report.readers.study import Questions

app = typer.Typer(no_args_is_help=True, help="Reader studies: write blinded packets of images, score the answers.")


@app.command(
    epilog="Example: medsynth readers export sweeps/quickstart.yaml --arm gaussian+add@0.5 --readers 3 -o study"
)
def export(
    sweep: SweepFile,
    arm: Annotated[str, typer.Option(metavar="NAME", help="Arm or generator, as the report names it.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="New folder, to be sent to readers.")],
    per_class: Annotated[int, typer.Option(min=1, help="Real and synthetic images of each class.")] = 20,
    readers: Annotated[int, typer.Option(min=1, max=50, help="Packets, each in an order of its own.")] = 3,
    repeat_share: Annotated[float, typer.Option(min=0, max=0.5, help="Share of the images shown twice.")] = 0.1,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key, never to be sent; default: DIR.key.json.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which images are shown.")] = 0,
    questions: Annotated[Path | None, typer.Option(metavar="FILE", help="Words of the study, as YAML.")] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Write blinded packets: real images of val and an arm's synthetic ones, one offline page for each reader.

    Beside the pages stands the same study as a Label Studio project. The real images are in the packets: send them
    only to who may see them.
    """
    from medsynth_ray.readers import export as write

    with exits(as_json):
        words = _questions(questions)
        made = write(
            open_sweep(sweep, settings).result(), arm, output, per_class=per_class, num_readers=readers,
            repeat_share=repeat_share, seed=seed, questions=words, key_path=key,
        )  # fmt: skip
        if as_json:
            print_json(made)
        _say_exported(made)


@app.command(epilog="Example: medsynth readers score study.key.json answers/*.json -o readers.json --html readers.html")
def score(
    key: Annotated[Path, typer.Argument(metavar="KEY", help="Key that `readers export` wrote.", show_default=False)],
    answers: Annotated[
        list[Path],
        typer.Argument(
            metavar="ANSWERS...", help="Downloaded answers, or JSON exports of Label Studio.", show_default=False
        ),
    ],
    margin: Annotated[
        float, typer.Option(help="Readers cannot tell apart if their AUC is surely within this of 0.5.")
    ] = 0.1,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Numbers, as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="The same as a page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score answers: AUC of each reader and of all, agreement, and how often the diagnosis is the label."""
    import json

    from medsynth_ray.readers import score as scored
    from medsynth_ray.report.readers.section import readers_page

    with exits(as_json):
        for path in (output, html):
            check_new_file(path)
        result = scored(key, answers, margin=margin)
        if output is not None:
            output.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        if html is not None:
            html.write_text(readers_page(result), encoding="utf-8")
        if as_json:
            print_json(result)
        _say_scored(result)


def _questions(path: Path | None) -> Questions | None:
    from medsynth_ray import yamlfile
    from medsynth_ray.report.readers.study import Questions

    return None if path is None else Questions.read(yamlfile.load_dict(path, kind="file of questions"), str(path))


def _say_exported(made: dict[str, Any]) -> None:
    real = made["images"] - sum(made["of_each_kind"].values())
    screen.print(
        f"{made['readers']} packets of {made['showings']} images in {made['folder']}, of {made['images']} different "
        f"ones: {real} of them real, of val, which no generator of this sweep was fitted on.",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if made["fitted_on_unknown"]:
        screen.print("What this generator was fitted on is unknown: it may have seen the real images.", soft_wrap=True)
    if made["distractors"]:
        screen.print(
            f"{made['distractors']} of the real ones are of classes without synthetic images: they keep the diagnosis "
            "blind and count for nothing else.", soft_wrap=True,
        )  # fmt: skip
    if made["left_out"]:
        left = ", ".join(made["left_out"])
        screen.print(
            f"Not compared, because it has no real or no synthetic image: {left}", markup=False, soft_wrap=True
        )
    screen.print(f"Key (keep it, never send it): {made['key']}", markup=False, soft_wrap=True)
    screen.print(f"Next: medsynth readers score {made['key']} ANSWERS...", markup=False, soft_wrap=True)


def _say_scored(result: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from medsynth_ray.report.readers.section import area, kappa, share

    screen.print(f"[bold]{escape(result['sentence'])}[/]", soft_wrap=True)
    table = Table("reader", "answered", "AUC", "right", "same again", "kappa", box=None, pad_edge=False)
    for row in result["readers"]:
        again = row["again"]["origin"]
        table.add_row(
            str(row["reader"]), f"{row['answered']} of {row['shown']}",
            *map(escape, (area(row["auc"]), share(row["accuracy"]), share(again["same"]), kappa(again["kappa"]))),
        )  # fmt: skip
    screen.print(table)
    if between := result["agreement"]["origin"]:
        diagnosis = kappa(result["agreement"]["diagnosis"]["kappa"])
        screen.print(f"Between readers, {between['kind']} kappa: {kappa(between['kappa'])}, diagnosis {diagnosis}")
    table = Table("class", "synthetic recognised", "real recognised", box=None, pad_edge=False)
    for name, arms in result["fidelity"].items():
        table.add_row(*map(escape, (name, share(arms["synthetic"]), share(arms["real"]))))
    screen.print(table)
