"""`make bench`: measure, compare, and write the section of `docs/performance.md`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.goals import GOALS, Goal
from benchmarks.loads import WSLOAD, Generator, LoadError
from benchmarks.machine import PROJECT, facts, is_busy
from benchmarks.report import render, splice
from benchmarks.rows import GRID, GROUPS, Group, Run, Target, select
from benchmarks.samples import Results, Sample, measured, verdict
from benchmarks.servers import Server, ServerError

DOCUMENT = PROJECT / "docs" / "performance.md"
PROGRAM = Path(sys.executable).with_name("iii-state")
RAW = PROJECT / ".cache" / "bench" / "results.json"
ROUNDS, SECONDS, WARMUP = 3, 2.0, 0.5
QUICK_ROUNDS, QUICK_SECONDS, QUICK_WARMUP = 1, 0.4, 0.1
NEEDED = {
    "gcc": "apt-get install gcc libc6-dev",
    "redis-server": "apt-get install redis-server  # brings redis-benchmark too",
    "taskset": "apt-get install util-linux",
}
DISK_GB_MIN = 20

console = Console(stderr=True)


@click.command()
@click.option("--full", is_flag=True, help="Measure the whole grid instead of the rows with goals.")
@click.option("--rows", default="", help="Only these goals: names or parts of them, with commas.")
@click.option("--rounds", type=click.IntRange(min=1), help=f"Rounds ({ROUNDS}).")
@click.option("--seconds", type=click.FloatRange(min=0.1), help=f"Seconds a load ({SECONDS:g}).")
@click.option("--quick", is_flag=True, help="One short round: shows that everything works.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the servers keep their data (a new directory under .cache).",
)
@click.option(
    "--program",
    default=PROGRAM,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Measure another iii-state than the one installed here.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 when a `must` does not hold.")
def main(
    *,
    full: bool,
    rows: str,
    rounds: int | None,
    seconds: float | None,
    quick: bool,
    directory: Path | None,
    program: Path,
    strict: bool,
) -> None:
    """Measure this server beside Redis, and print what was found as Markdown.

    A run of everything, with the usual rounds and seconds or more, also writes its section of
    docs/performance.md. Raw samples go to .cache/bench/results.json.
    """
    require_tools()
    goals = () if full else chosen_goals(rows)
    wanted = frozenset(run for goal in goals for run in goal.runs)
    groups = GRID if full else select(GROUPS, wanted) if rows else GROUPS
    rounds = rounds or (QUICK_ROUNDS if quick else ROUNDS)
    seconds = seconds or (QUICK_SECONDS if quick else SECONDS)
    results: dict[Run, list[Sample]] = {}
    broken = False
    RAW.parent.mkdir(parents=True, exist_ok=True)
    require_room(directory or RAW.parent)
    with tempfile.TemporaryDirectory(prefix="data-", dir=directory or RAW.parent) as scratch:
        found = facts(Path(scratch)) | {"rounds": f"{rounds} of {seconds:g} s, taking turns"}
        if program != PROGRAM:
            found["commit"] = f"unknown: {program}"
        if is_busy():
            console.print("This machine is busy with something else: expect noise.", style="red")
        try:
            bench = Bench(
                program.absolute(), Path(scratch), seconds, QUICK_WARMUP if quick else WARMUP
            )
            bench.measure(groups, rounds, results)
        except ServerError as error:
            console.print(str(error), style="red", markup=False)
            broken = True
        except KeyboardInterrupt:
            console.print("Interrupted; this is what was measured so far.", style="red")
            broken = True
    section = render(groups, goals, results, found)
    save_raw(results, found)
    show(section)
    usual = program == PROGRAM and rounds >= ROUNDS and seconds >= SECONDS
    if usual and not rows and not broken:
        name = "bench-full" if full else "bench"
        DOCUMENT.write_text(splice(DOCUMENT.read_text(), name, section))
        console.print(f"Written to {DOCUMENT.relative_to(PROJECT)}.")
    failed = any(sample.errors for samples in results.values() for sample in samples)
    sys.exit(broken or failed or (strict and misses(goals, results)))


def require_tools() -> None:
    """Build wsload; say what is missing and how to install it, and exit with 2."""
    missing = [f"{name}: {how}" for name, how in NEEDED.items() if not shutil.which(name)]
    if missing:
        console.print("These programs are needed and missing:", *missing, sep="\n  ", style="red")
        sys.exit(2)
    source = WSLOAD.with_suffix(".c")
    build = ["gcc", "-O2", "-o", str(WSLOAD), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode:
        console.print(f"wsload does not compile:\n{done.stderr}", style="red", markup=False)
        sys.exit(2)


def require_room(directory: Path) -> None:
    """Exit with 2 when the disk might become full meanwhile."""
    free = shutil.disk_usage(directory).free / 1e9
    if free < DISK_GB_MIN:
        console.print(
            f"{directory} has {free:.0f} GB free and {DISK_GB_MIN} are needed; "
            f"choose another with --directory.",
            style="red",
        )
        sys.exit(2)


def chosen_goals(rows: str) -> tuple[Goal, ...]:
    """The goals whose name contains one of the comma-separated words; all for no words."""
    words = [word.strip() for word in rows.split(",")]
    goals = tuple(goal for goal in GOALS if any(word in goal.name for word in words))
    if not goals:
        names = ", ".join(goal.name for goal in GOALS)
        raise click.BadParameter(f"no such row; there are {names}", param_hint="--rows")
    return goals


def misses(goals: Sequence[Goal], results: Results) -> bool:
    """Whether some goal is not at least met as it must be."""
    held = ("aim", "must", "not the aim")
    return any(verdict(goal, measured(goal.quantity, results)) not in held for goal in goals)


def save_raw(results: Results, found: dict[str, str]) -> None:
    """Every sample, for whoever wants to look closer."""
    runs = [
        {"server": run.target.name, "action": run.action, "samples": samples}
        for run, samples in results.items()
    ]
    RAW.write_bytes(msgspec.json.format(msgspec.json.encode({"facts": found, "runs": runs})))


def show(section: str) -> None:
    """Print for a person on a terminal, and as Markdown into a pipe."""
    if sys.stdout.isatty():
        Console().print(Markdown(section))
    else:
        print(section)


class Bench:
    """Runs groups of servers and loads, on two processors that share nothing."""

    def __init__(self, program: Path, scratch: Path, seconds: float, warmup: float) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._server_core = frozenset(cores[:1])
        self._load_core = frozenset(cores[1:2] or cores)
        self._spare_cores = frozenset(cores[2:]) or self._load_core
        self._program = program
        self._scratch = scratch
        self._generator = Generator(self._load_core, seconds, warmup)

    def measure(
        self, groups: Sequence[Group], rounds: int, results: dict[Run, list[Sample]]
    ) -> None:
        """Measure every run once a round and add the samples to `results`.

        Raises:
            ServerError: A server did not start or died; `results` holds what came before.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        rounds_of = {
            group: min(rounds * group.rounds_times, group.rounds_max or sys.maxsize)
            for group in groups
        }
        total = sum(rounds_of[group] * len(group.runs) for group in groups)
        with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("", total=total)
            for group in groups:
                for run, sample in self._rounds(group, rounds_of[group]):
                    results.setdefault(run, []).append(sample)
                    title = f"{run.target.name}: {run.action.name}"
                    progress.update(task, advance=1, description=f"{title:50}")

    def _rounds(self, group: Group, rounds: int) -> Iterator[tuple[Run, Sample]]:
        with ExitStack() as stack:
            servers = {
                target: stack.enter_context(
                    Server(target, self._program, self._scratch, self._cores(target))
                )
                for target in group.targets
            }
            for _ in range(rounds):
                for run in group.runs:
                    yield run, self._measure(servers[run.target], run)

    def _measure(self, server: Server, run: Run) -> Sample:
        try:
            return self._generator.measure(server, run)
        except LoadError as error:
            console.print(f"{run.target.name}: {error}", style="red", markup=False)
            return Sample(errors=1)

    def _cores(self, target: Target) -> frozenset[int]:
        return self._server_core | self._spare_cores if target.helper_core else self._server_core


if __name__ == "__main__":
    main()
