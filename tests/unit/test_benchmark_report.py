"""The benchmark's figures and tables, from made-up samples."""

import pytest

from benchmarks.goals import GOALS, Figure, Goal, Ratio
from benchmarks.report import goal_table, load_title, render, side_by_side, splice, three_digits
from benchmarks.rows import (
    BEHIND,
    DURABLE,
    FANNED_OUT,
    GROUPS,
    PACED,
    REDIS_ALWAYS,
    SET_8X64,
    Group,
    Run,
    select,
)
from benchmarks.samples import Sample, measured, verdict

OURS, THEIRS = Run(DURABLE, SET_8X64), Run(REDIS_ALWAYS, SET_8X64)
HALF = Goal("half", "ours / theirs", Ratio(OURS, THEIRS), must=0.45, aim=0.8)


def rates(*values: float, errors: int = 0, client_cpu: float = 0.1) -> list[Sample]:
    return [
        Sample(rate=v, p50=500.0, p99=1500.0, errors=errors, client_cpu=client_cpu) for v in values
    ]


def test_a_ratio_is_the_median_of_the_rounds_own_and_tells_the_lowest_and_highest() -> None:
    results = {OURS: rates(10, 40, 30), THEIRS: rates(50, 50, 100)}

    figure = measured(HALF.quantity, results)

    assert figure is not None
    assert (figure.value, figure.low, figure.high) == (0.3, 0.2, 0.8)


def test_a_worst_case_is_the_largest_round_where_others_are_the_median() -> None:
    results = {OURS: [Sample(p999=ms * 1000) for ms in (5, 90, 7)]}

    pause = measured(Figure(OURS, "p999", 0.001, worst=True), results)
    usual = measured(Figure(OURS, "p999", 0.001), results)

    assert pause is not None
    assert usual is not None
    assert (pause.value, usual.value) == (90, 7)


@pytest.mark.parametrize(
    ("rate", "holds"), [(90, "aim"), (80, "aim"), (45, "must"), (44, "**no**"), (0, "**no**")]
)
def test_the_verdict_names_the_highest_bound_that_holds(rate: float, holds: str) -> None:
    results = {OURS: rates(rate), THEIRS: rates(100)}

    assert verdict(HALF, measured(HALF.quantity, results)) == holds


def test_a_goal_of_at_most_holds_below_its_bound() -> None:
    goal = Goal("start", "start", Figure(OURS, "seconds"), must=6, aim=2, better="less", unit="s")

    verdicts = [
        verdict(goal, measured(goal.quantity, {OURS: [Sample(seconds=s)]})) for s in (2, 3, 7)
    ]

    assert verdicts == ["aim", "must", "**no**"]


def test_a_goal_without_a_must_is_never_failed() -> None:
    goal = Goal("memory", "memory", Ratio(OURS, THEIRS), aim=1.5, better="less")

    assert verdict(goal, measured(goal.quantity, {OURS: rates(9), THEIRS: rates(1)})) == (
        "not the aim"
    )


def test_error_replies_make_a_good_rate_invalid() -> None:
    results = {OURS: rates(90, errors=2), THEIRS: rates(100)}

    assert verdict(HALF, measured(HALF.quantity, results)) == "invalid: 2 errors"
    assert "2 errors" in side_by_side([DURABLE, REDIS_ALWAYS], [OURS, THEIRS], results)


def test_a_goal_with_a_run_missing_is_not_measured() -> None:
    assert verdict(HALF, measured(HALF.quantity, {OURS: rates(90)})) == "not measured"


def test_a_rate_that_the_client_set_is_marked_and_explained() -> None:
    results = {OURS: rates(90, client_cpu=0.95), THEIRS: rates(100)}

    text = render([Group("side by side", (OURS, THEIRS))], [HALF], results, {"commit": "abc"})

    assert "0.09K (0.50 / 1.50) † |" in text
    assert "more than 90 %" in text
    assert "| commit | abc |" in text


def test_a_figure_measured_beside_other_work_is_marked_and_counted() -> None:
    results = {OURS: [Sample(rate=50), Sample(rate=50, other_cpu=0.4)], THEIRS: rates(100)}

    text = render([Group("side by side", (OURS, THEIRS))], [HALF], results, {})

    assert "| 0.50 (0.50 to 0.50) ‡ | must |" in text
    assert "in 1 of 3 measurements" in text


def test_the_goal_table_shows_bounds_figure_and_range() -> None:
    line = goal_table([HALF], {OURS: rates(50, 60), THEIRS: rates(100, 100)}).splitlines()[-1]

    assert line == "| ours / theirs | >= 0.45 | >= 0.8 | 0.55 (0.50 to 0.60) | must |"


@pytest.mark.parametrize(
    ("value", "text"), [(377.4, "377"), (13.14, "13.1"), (2.871, "2.87"), (0.0412, "0.04")]
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


def test_the_time_to_the_handler_is_told_with_its_own_bounds_and_unit() -> None:
    run = Run(DURABLE, PACED)
    results = {run: [Sample(rate=1000, p50=300, lag_p50=us, lag_p99=9000) for us in (700, 3400)]}
    goals = [goal for goal in GOALS if run in goal.runs]

    lines = goal_table(goals, results).splitlines()[2:]

    assert [line.split(" | ", 1)[1] for line in lines] == [
        "<= 3 ms | <= 1 ms | 2.05 ms (0.70 to 3.40) | must |",
        "<= 10 ms | <= 5 ms | 9.00 ms (9.00 to 9.00) | must |",
    ]


def test_a_fan_out_is_judged_by_its_median_and_by_its_slowest_write_of_all() -> None:
    run = Run(DURABLE, FANNED_OUT)
    results = {run: [Sample(rate=10, lag_p50=9e4, lag_worst=ms * 1e3) for ms in (95, 1001, 99)]}
    goals = [goal for goal in GOALS if run in goal.runs]

    assert [verdict(goal, measured(goal.quantity, results)) for goal in goals] == ["aim", "**no**"]


@pytest.mark.parametrize(
    ("rate", "errors", "holds"),
    [(1e5, 0, "aim"), (3e4, 0, "must"), (29_999, 0, "**no**"), (1e5, 1, "invalid: 1 errors")],
)
def test_catching_up_is_judged_by_its_events_each_of_which_came_once(
    rate: float, errors: int, holds: str
) -> None:
    run = Run(DURABLE, BEHIND)
    goal = next(goal for goal in GOALS if run in goal.runs)

    figure = measured(goal.quantity, {run: [Sample(event_rate=rate, errors=errors)]})

    assert verdict(goal, figure) == holds


def test_runs_without_a_rate_of_requests_show_that_of_their_events() -> None:
    group = next(group for group in GROUPS if Run(DURABLE, BEHIND) in group.runs)

    text = render([group], [], {Run(DURABLE, BEHIND): [Sample(event_rate=31_234)]}, {})

    assert "| catch up 1,000,000 changes of 100,000 keys | 31.2K events/s |" in text


def test_paced_loads_are_called_by_their_rate_and_their_triggers() -> None:
    loads = [load_title(load) for load in (PACED, FANNED_OUT)]

    assert loads == [
        "set 100 B at 1,000/s, trigger with a handler",
        "set 100 B at 10/s, 1,000 triggers with a handler",
    ]


def test_every_goal_is_measured_by_some_group() -> None:
    runs = {run for group in GROUPS for run in group.runs}

    assert [goal.name for goal in GOALS if not runs.issuperset(goal.runs)] == []


def test_selecting_keeps_only_what_is_wanted() -> None:
    behind = Run(DURABLE, BEHIND)

    groups = select(GROUPS, frozenset({OURS, behind}))

    assert [(group.runs, group.rounds_max) for group in groups] == [((OURS,), None), ((behind,), 1)]


def test_splicing_replaces_only_what_is_between_the_markers() -> None:
    document = "intro\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nrest\n"

    once = splice(document, "bench", "new\n")

    assert once == "intro\n<!-- bench: begin -->\n\nnew\n\n<!-- bench: end -->\nrest\n"
    assert splice(once, "bench", "new\n") == once


def test_splicing_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- bench: begin -->"):
        splice("intro", "bench", "new")
