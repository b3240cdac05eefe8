"""`medsynth evaluate`: two folders of images, compared. Thin, as `cli.py` is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsynth_ray.terminal import AsJson, check_new_file, exits, print_json, screen

if TYPE_CHECKING:
    from rich.table import Table

    from medsynth_ray.data._depth import Window
    from medsynth_ray.evaluate import Evaluation, Row
    from medsynth_ray.protocols import Spec


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(epilog="Example: medsynth evaluate data/real out/gaussian --space efficientnet_lite0 --html e.html")(
        evaluate
    )


def evaluate(
    real: Annotated[str, typer.Argument(help="Folder or URL of real images, flat or with a subfolder per class.")],
    synthetic: Annotated[str, typer.Argument(help="Folder or URL of synthetic images.")],
    space: Annotated[
        list[str] | None,
        typer.Option(help="Feature space, or YAML: '{use: timm_model, config: {...}}'. Default: efficientnet_lite0."),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Metric, or YAML with settings. Default: all.")] = None,
    resolution: Annotated[
        int | None, typer.Option(min=8, max=2048, help="Stretch every image to this side first. Default: its own size.")
    ] = None,
    window: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH|full", help="For more than 8 bits: values that become 0 and 255.")
    ] = None,
    per_class: Annotated[bool, typer.Option(help="Also class by class, where both have the same classes.")] = True,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Cache of features. Default: ~/.cache/medsynth/features.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a self-contained page, a new file.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of subsets, permutations and halvings.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare two folders of images: KID, Frechet distance, coverage, each beside real against real."""
    with exits(as_json):
        from medsynth_ray import evaluate as evaluation
        from medsynth_ray import show
        from medsynth_ray.evaluate_page import page

        check_new_file(html)
        with show.Running(screen) as bar:
            found = evaluation.evaluate(
                real, synthetic, spaces=_specs(space, "--space"), metrics=_specs(metric, "--metric"),
                resolution=resolution, window=_window(window), per_class=per_class, cache=cache, seed=seed,
                progress=bar.data,
            )  # fmt: skip
        if html is not None:
            _write(html, page(found))
        if as_json:
            print_json({**found.to_json(), "html": None if html is None else str(html)})
        _show(found)


def _specs(texts: list[str] | None, option: str) -> list[Spec]:
    """Components by name, or by a mapping with settings in YAML or JSON.

    Raises:
        ConfigError: not YAML, or not a component with settings.
    """
    from pydantic import ValidationError

    from medsynth_ray import registry
    from medsynth_ray.errors import ConfigError
    from medsynth_ray.protocols import Spec

    specs = []
    for text in texts or []:
        try:
            specs.append(Spec.model_validate(_value(text, option)))
        except ValidationError as error:
            raise ConfigError("\n".join(registry.explain(error, option, Spec))) from None
    return specs


def _window(text: str | None) -> Window:
    """`LOW,HIGH`, `[LOW, HIGH]` or `full`.

    Raises:
        ConfigError: something else.
    """
    from medsynth_ray.errors import ConfigError

    if text is None or text == "full":
        return text  # type: ignore[return-value]
    value = _value(text if text.lstrip().startswith("[") else f"[{text}]", "--window")
    if isinstance(value, list) and len(value) == 2 and all(type(v) in (int, float) for v in value):
        return (float(value[0]), float(value[1]))
    raise ConfigError(f"--window: LOW,HIGH or full is allowed, got {text!r}")


def _value(text: str, option: str) -> Any:
    from medsynth_ray.yamlfile import read_text

    return read_text(text, option)


def _write(path: Path, text: str) -> None:
    from medsynth_ray.errors import ConfigError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {str(path)!r}: cannot be written ({error.strerror})") from error


def _show(found: Evaluation) -> None:
    from rich.markup import escape

    from medsynth_ray.evaluate_page import sentences

    screen.print(_table(found))
    for sentence in sentences(found):
        screen.print(escape(sentence), soft_wrap=True)
    for note in found.notes:
        screen.print(escape(note), style="yellow", soft_wrap=True)


def _table(found: Evaluation) -> Table:
    from rich.table import Table

    from medsynth_ray.evaluate_page import COLUMNS

    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in found.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    from rich.markup import escape

    from medsynth_ray.evaluate_page import cells

    return [escape(cell) for cell in cells(row)]
