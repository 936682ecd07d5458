"""From samples to Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.goals import Better, Goal
from benchmarks.rows import Group, Load, Run, Target
from benchmarks.samples import Measured, Results, Sample, measured, middle, verdict

CLIENT_BOUND_MARK = " †"
DISTURBED_MARK = " ‡"
CLIENT_BOUND_NOTE = (
    "† The load generator used more than 90 % of its core: the server might do more than this."
)
DISTURBED_NOTE = (
    "‡ Other programs used more than a quarter of a core meanwhile, as in {} of {} measurements: "
    "measure again on an idle machine."
)


def render(
    groups: Sequence[Group], goals: Sequence[Goal], results: Results, facts: Mapping[str, str]
) -> str:
    """The generated section: facts, goals, then a table of every group."""
    parts = [table(("", ""), facts.items())]
    if goals:
        parts += ["### Goals", goal_table(goals, results)]
    for group in groups:
        if not any(run in results for run in group.runs):
            continue
        parts += [f"### {group.title}", group_table(group, results)]
    samples = [sample for of_run in results.values() for sample in of_run]
    if any(sample.is_client_bound for sample in samples):
        parts.append(CLIENT_BOUND_NOTE)
    disturbed = sum(sample.is_disturbed for sample in samples)
    if disturbed:
        parts.append(DISTURBED_NOTE.format(disturbed, len(samples)))
    return "\n\n".join(parts) + "\n"


def goal_table(goals: Sequence[Goal], results: Results) -> str:
    """One line a goal: its bounds, its figure with the range of the rounds, and what holds."""
    lines = []
    for goal in goals:
        figure = measured(goal.quantity, results)
        bounds = (bound(goal.must, goal), bound(goal.aim, goal))
        lines.append((goal.title, *bounds, shown_figure(figure, goal), verdict(goal, figure)))
    return table(("quantity", "must", "aim", "measured (range)", "holds"), lines)


def bound(value: float | None, goal: Goal) -> str:
    """A bound with its direction and unit."""
    signs: dict[Better, str] = {"more": ">=", "less": "<="}
    return "" if value is None else f"{signs[goal.better]} {value:g} {goal.unit}".rstrip()


def shown_figure(figure: Measured | None, goal: Goal) -> str:
    """A goal's figure, the lowest and highest round, and a mark when the client set it."""
    if figure is None:
        return ""
    value, low, high = (three_digits(x) for x in (figure.value, figure.low, figure.high))
    mark = marks(figure.client_bound, figure.disturbed)
    unit = f" {goal.unit}" if goal.unit else ""
    return f"{value}{unit} ({low} to {high}){mark}"


def group_table(group: Group, results: Results) -> str:
    """Loads down, servers across when several share the loads; else one line a run."""
    if len(group.targets) > 1:
        return side_by_side(group.targets, group.runs, results)
    return one_server(group.runs, results)


def side_by_side(targets: Sequence[Target], runs: Iterable[Run], results: Results) -> str:
    """Requests per second of every load on every server, with p50 and p99 in milliseconds."""
    loads = dict.fromkeys(run.action for run in runs if isinstance(run.action, Load))
    lines = []
    for load in loads:
        cells = [cell(results.get(Run(target, load), ())) for target in targets]
        lines.append((load_title(load), *cells))
    return table(("requests/s (p50 / p99 ms)", *(target.name for target in targets)), lines)


def one_server(runs: Sequence[Run], results: Results) -> str:
    """Every run of one server with all that was watched."""
    header = ("run", "requests/s (p50 / p99 ms)", "p99.9 ms", "max ms", "memory", "disk", "cores")
    lines = []
    for run in runs:
        samples = results.get(run, ())
        if not samples:
            continue
        one = middle(samples)
        memory = max(sample.memory_mb for sample in samples)
        lines.append(
            (
                load_title(run.action) if isinstance(run.action, Load) else run.action.name,
                f"{one.seconds:.2f} s" if one.seconds else cell(samples),
                milliseconds(one.p999),
                milliseconds(max(sample.worst for sample in samples)),
                f"{memory:.0f} MB" if memory else "",
                f"{one.disk_mb:.0f} MB" if one.disk_mb else "",
                f"{one.server_cpu:.2f} + {one.helper_cpu:.2f}" if one.server_cpu else "",
            )
        )
    return table(header, lines)


def cell(samples: Sequence[Sample]) -> str:
    """Rate and latencies of some rounds, or what is wrong with them."""
    if not samples:
        return ""
    one = middle(samples)
    if one.errors:
        return f"{one.errors} errors"
    mark = marks(one.is_client_bound, any(sample.is_disturbed for sample in samples))
    if not one.rate:
        return f"{thousands(one.event_rate)} events/s{mark}" if one.event_rate else ""
    text = f"{thousands(one.rate)} ({milliseconds(one.p50)} / {milliseconds(one.p99)}){mark}"
    if one.event_rate:
        lag = f"{milliseconds(one.lag_p50)} / {milliseconds(one.lag_p99)}"
        text += f"; {thousands(one.event_rate)} events/s, lag {lag}"
    return text


def marks(client_bound: bool, disturbed: bool) -> str:
    """The marks of a figure that says less than it seems to."""
    return CLIENT_BOUND_MARK * client_bound + DISTURBED_MARK * disturbed


def load_title(load: Load) -> str:
    """A load in the report's words."""
    where = f", {load.keys:,} keys of scope `{load.scope}`" if load.long_keys else ""
    bound = f"{load.triggers:,} triggers" if load.triggers > 1 else "trigger"
    trigger = f", {'durable ' * bool(load.durable)}{bound} with a handler" * load.handler
    if load.others:
        trigger = f", {load.others:,} triggers of other scopes"
    return load.name + ", with_revision" * load.with_revision + where + trigger


def thousands(rate: float) -> str:
    """`2.87K`, `377K`."""
    return f"{three_digits(rate / 1000)}K"


def milliseconds(microseconds: float) -> str:
    """`0.32`, or nothing for what was not measured."""
    return three_digits(microseconds / 1000) if microseconds else ""


def three_digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def splice(document: str, name: str, section: str) -> str:
    """`document` with what stands between the markers of `name` replaced by `section`.

    Raises:
        ValueError: The document lacks one of the two markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found_begin, rest = document.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"the document needs the lines {begin} and {end}")
    return f"{before}{begin}\n\n{section}\n{end}{after}"
