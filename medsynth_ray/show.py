"""What the command line shows to people: tables, progress, the verdict. Everything goes to the given console."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from medsynth_ray.driver import Sweep
    from medsynth_ray.engine.plan import Job, Schedule
    from medsynth_ray.estimate import Estimate

_COLOURS = {"stop": "bold red", "quarantine": "yellow", "warn": "yellow", "info": "dim"}
_WORDS = {"helps": "bold green", "harms": "bold red"}


class Running:
    """Progress bars of a run; on a screen that is no terminal, a line at most every ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console,
            transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}
        self._schedule: Schedule | None = None
        self._running: dict[str, Job] = {}
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def data(self, done: int, total: int, what: str) -> None:
        """Progress of reading the data."""
        self._update(what, done, total)

    def schedule(self, schedule: Schedule) -> None:
        """The plan begins."""
        self._schedule = schedule
        self._update("trials", schedule.num_done, schedule.num_seen)

    def start(self, job: Job) -> None:
        """A trial starts."""
        self._running[job.unit.key] = job
        self._show()

    def end(self, job: Job) -> None:
        """A trial ended."""
        self._running.pop(job.unit.key, None)
        self._show()

    def _show(self) -> None:
        assert self._schedule is not None
        names = ", ".join(escape(job.name) for job in self._running.values())
        self._update("trials", self._schedule.num_done, self._schedule.num_seen, f"trials: {names[:70]}")

    def _update(self, key: str, done: int, total: int, text: str | None = None) -> None:
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(key, total=total)
        self._bars.update(self._tasks[key], completed=done, total=total, description=text or key)
        if not self._console.is_terminal and time.monotonic() - self._said >= 10:
            self._said = time.monotonic()
            self._console.print(f"{text or key} ({done} of {total} known)", soft_wrap=True)


def estimate(console: Console, sweep: Sweep, said: Estimate) -> None:
    """The plan of a sweep as tables, and the power line."""
    console.print(f"[bold]{escape(sweep.sweep_id)}[/bold], store {escape(sweep.store.url)}", soft_wrap=True)
    images = Table("images", *map(escape, said.class_names), box=None, pad_edge=False)
    for split, counts in said.counts.items():
        images.add_row(split, *map(str, counts))
    console.print(images)
    trials = Table("phase", "trials at most", "s each", "min in all", box=None, pad_edge=False)
    for phase, num in said.trials.items():
        each = said.seconds_per_trial.get(phase)
        trials.add_row(phase, str(num), f"{each:.1f}" if each else "?", f"{num * each / 60:.1f}" if each else "?")
    console.print(trials)
    console.print(
        f"{said.done} trials are done. {'' if said.seconds_per_trial else 'Times show once a trial is done.'}"
    )
    console.print(said.power.to_json()["line"], style="" if said.power.sufficient else "yellow")


def findings(console: Console, found: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """The audit, worst first, the images of each class, and whether a sweep can run."""
    for severity, colour in _COLOURS.items():
        for finding in (one for one in found if one["severity"] == severity):
            console.print(f"[{colour}]{severity:10}[/] {escape(finding['message'])}", soft_wrap=True)
    splits = summary["splits"] or {}
    table = Table("class", "usable", *splits, box=None, pad_edge=False)
    for name, count in summary["classes"].items():
        table.add_row(escape(name), f"{count:,}", *(f"{split.get(name, 0):,}" for split in splits.values()))
    console.print(table)
    height, width, channels = summary["image_shape"]
    console.print(
        f"{summary['images']:,} images, {summary['usable']:,} usable in {summary['groups']:,} groups, "
        f"{height} x {width}, {'gray' if channels == 1 else 'colour'}"
    )
    num_stops = summary["findings"]["stop"]
    reasons = f"{num_stops} reason{'s' if num_stops > 1 else ''}"
    console.print(f"[bold red]A sweep cannot run: {reasons} above[/]" if num_stops else "A sweep can run.")


def verdict(console: Console, said: dict[str, Any], report: str, links: dict[str, str], arguments: str) -> None:
    """The answer in a frame, and what to do next."""
    if said:
        style = _WORDS.get(said["word"], "bold")
        caveats = "".join(f"\n[dim]- {escape(c)}[/dim]" for c in said["caveats"])
        privacy = f"\n{escape(said['privacy'])}" if said["privacy"] else ""
        console.print(Panel(f"[{style}]{escape(said['sentence'])}[/]{privacy}{caveats}", title="verdict"))
    console.print(f"Report   {report}", soft_wrap=True)
    _links(console, links)
    for verb in ("status", "ui", "export"):
        more = " ARM DIR" if verb == "export" else ""
        console.print(f"{'Useful' if verb == 'status' else '':8} medsynth {verb} {arguments}{more}", soft_wrap=True)


def status(console: Console, state: dict[str, Any]) -> None:
    """How far a sweep is."""
    for key, value in state.items():
        if key != "verdict":
            console.print(f"{key:12} {value}", markup=False, soft_wrap=True)
    if state.get("verdict"):
        console.print(state["verdict"]["sentence"], markup=False)


def checks(console: Console, found: list[dict[str, Any]]) -> None:
    """What the doctor found."""
    for check in found:
        mark = "[green]ok  [/green]" if check["ok"] else "[bold red]FAIL[/bold red]"
        console.print(f"{mark} {escape(check['name']):22} {escape(check['said'])}", soft_wrap=True)


def components(console: Console, described: list[dict[str, Any]], *, detailed: bool) -> None:
    """Components by role, or the settings of some."""
    table = Table("role", "name", "what", box=None, pad_edge=False)
    for item in described:
        table.add_row(item["role"], item["name"], escape(item["summary"]))
    console.print(table)
    for item in described if detailed else []:
        fields = Table(
            "setting", "default", "meaning", title=f"{item['role']} {item['name']}", box=None, pad_edge=False
        )
        for field in item["fields"]:
            fields.add_row(field["name"], escape(str(field["default"])), escape(field["description"]))
        console.print(fields)


def mirrored(console: Console, state: dict[str, Any]) -> None:
    """How far MLflow is, and where to look."""
    console.print(
        f"{state['mirrored']} runs mirrored to {escape(state['uri'])}, {state['behind']} behind", soft_wrap=True
    )
    if state["problem"]:
        console.print(state["problem"], markup=False, style="yellow", soft_wrap=True)
    _links(console, state["links"])


def _links(console: Console, links: dict[str, str]) -> None:
    for name, link in links.items():
        console.print(f"{name:8} {link}", markup=False, soft_wrap=True)


def retried(console: Console, done: dict[str, Any]) -> None:
    """What was tried again, and what came out."""
    table = Table("tried again", "before", "now", box=None, pad_edge=False)
    for row in done["tried"]:
        table.add_row(escape(row["job"]), escape(row["before"]), escape(row["after"]))
    console.print(table if done["tried"] else f"No failed trial to try again ({done['failed']}); nothing was run.")
    for row in done["left"]:
        console.print(f"left alone ({row['fault']}): {row['job']}: {row['before']}", markup=False, soft_wrap=True)
    if done["problem"]:
        console.print(done["problem"], markup=False, style="yellow", soft_wrap=True)
    if done["verdict"]:
        console.print(done["verdict"]["sentence"], markup=False)


def extended(console: Console, made: dict[str, Any]) -> None:
    """The new sweep file, what of the old sweep it uses, and its look at the locked test."""
    console.print(f"{escape(made['path'])} extends {escape(made['extends'])}:", soft_wrap=True)
    for label, row in made["generators"].items():
        grid = f"; the grid is laid anew, {row['known']} of its points were tried" if row["method"] == "grid" else ""
        console.print(f"  {label}: {row['before']} -> {row['after']} settings{grid}", markup=False)
    console.print(f"{made['reused']} finished trials of this store are used again.")
    before = made["looks_before"]
    if before:
        console.print(
            f"{len(before)} sweep(s) of this store have opened this locked test ({', '.join(before)}). Another confirm "
            "is another look: it is recorded and the report counts it. A verdict after several looks is worth less.",
            markup=False, style="yellow",
        )  # fmt: skip


def collected(console: Console, done: dict[str, Any]) -> None:
    """What gc removed, or would."""
    table = Table("what", "kind", "number", "bytes", box=None, pad_edge=False)
    for row in done["removed"]:
        table.add_row(row["what"], row["kind"], f"{row['num']:,}", f"{row['num_bytes']:,}")
    if done["removed"]:
        console.print(table)
    verb = "would be removed" if done["dry_run"] else "removed"
    console.print(f"{done['num']:,} things, {done['num_bytes']:,} bytes {verb} in {done['store']}", markup=False)


def compared(console: Console, found: dict[str, Any]) -> None:
    """Two sweeps side by side."""
    console.print(_pair("", [(k, found["a"][k], found["b"][k]) for k in found["a"]]))
    if found["settings"]:
        console.print(_pair("settings that differ", [(r["key"], r["a"], r["b"]) for r in found["settings"]]))
    told = ", ".join(f"{what} {'the same' if equal else 'DIFFER'}" for what, equal in found["same"].items())
    console.print(told, markup=False)
    arms = [(" ".join(row["name"]), _arm(row["a"]), _arm(row["b"])) for row in found["arms"]]
    console.print(_pair("arms (mix: on val, confirm: on test)", arms))
    generators = [(row["name"], _generator(row["a"]), _generator(row["b"])) for row in found["generators"]]
    console.print(_pair("generators", generators))
    console.print(found["said"], markup=False, style="" if all(found["comparable"].values()) else "yellow")


def _pair(title: str, rows: list[tuple[str, Any, Any]]) -> Table:
    table = Table(title, "A", "B", box=None, pad_edge=False)
    for name, a, b in rows:
        table.add_row(escape(name), *("-" if value is None else escape(str(value)) for value in (a, b)))
    return table


def _arm(row: dict[str, Any] | None) -> str | None:
    if row is None:
        return None
    if row["mean"] is None:
        return str(row["status"])
    return f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}], {row['num_synthetic']} synthetic"


def _generator(row: dict[str, Any] | None) -> str | None:
    if row is None:
        return None
    numbers = [f"{name} {value:.4g}" for name, value in row["measured"].items() if value is not None]
    gates = [f"{label} {'passed' if passed else 'FAILED'}" for label, passed in row["gates"].items()]
    return ", ".join([row["status"], *numbers, *gates, f"{row['cost_s']:.0f} s"])
