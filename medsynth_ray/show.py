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
    from medsynth_ray.driver import Estimate, Sweep
    from medsynth_ray.engine.plan import Job, Schedule

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
    """The audit as a table."""
    table = Table("severity", "finding", box=None, pad_edge=False)
    for finding in found:
        table.add_row(f"[{_COLOURS[finding['severity']]}]{finding['severity']}[/]", escape(finding["message"]))
    console.print(table if found else "No findings.")
    console.print(", ".join(f"{key} {value}" for key, value in summary.items()), markup=False)


def verdict(console: Console, said: dict[str, Any], report: str, links: dict[str, str], arguments: str) -> None:
    """The answer in a frame, and what to do next."""
    if said:
        style = _WORDS.get(said["word"], "bold")
        caveats = "".join(f"\n[dim]- {escape(c)}[/dim]" for c in said["caveats"])
        privacy = f"\n{escape(said['privacy'])}" if said["privacy"] else ""
        console.print(Panel(f"[{style}]{escape(said['sentence'])}[/]{privacy}{caveats}", title="verdict"))
    console.print(f"Report   {report}", soft_wrap=True)
    for name, link in links.items():
        console.print(f"{name:8} {link}", soft_wrap=True)
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
