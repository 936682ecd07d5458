"""The benchmark's figures and tables, from made-up samples."""

import pytest

from benchmarks.report import goal_table, render, side_by_side, splice, three_digits
from benchmarks.rows import (
    DURABLE,
    GOALS,
    GROUPS,
    REDIS_ALWAYS,
    SET_8X64,
    Figure,
    Goal,
    Group,
    Ratio,
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


def test_a_ratio_is_that_of_the_medians_and_tells_its_lowest_and_highest_round() -> None:
    results = {OURS: rates(10, 40, 30), THEIRS: rates(50, 50, 100)}

    figure = measured(HALF.quantity, results)

    assert figure is not None
    assert (figure.value, figure.low, figure.high) == (0.6, 0.2, 0.8)


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


def test_every_goal_is_measured_by_some_group() -> None:
    runs = {run for group in GROUPS for run in group.runs}

    assert [goal.name for goal in GOALS if not runs.issuperset(goal.runs)] == []


def test_selecting_keeps_only_what_is_wanted() -> None:
    groups = select(GROUPS, frozenset({OURS}))

    assert [group.runs for group in groups] == [(OURS,)]


def test_splicing_replaces_only_what_is_between_the_markers() -> None:
    document = "intro\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nrest\n"

    once = splice(document, "bench", "new\n")

    assert once == "intro\n<!-- bench: begin -->\n\nnew\n\n<!-- bench: end -->\nrest\n"
    assert splice(once, "bench", "new\n") == once


def test_splicing_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="<!-- bench: begin -->"):
        splice("intro", "bench", "new")
