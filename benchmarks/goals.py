"""The goals of the benchmark, as data: what is made of the runs in `rows.py`, and its bounds."""

from __future__ import annotations

from typing import Literal

import msgspec

from benchmarks.rows import (
    ALL_OF_BIG,
    BEHIND,
    BIG,
    COMPACTING,
    DURABLE,
    DURABLY_WATCHED_8X64,
    FANNED_OUT,
    GET_8X64,
    GET_WITH_REVISION,
    HOT_IN_BIG,
    MEMORY,
    MIX_OF_BIG,
    OTHERS_WATCHED_8X64,
    OVERWRITE,
    PACED,
    REDIS_ALWAYS,
    SET_1K,
    SET_1X1,
    SET_8X1,
    SET_8X64,
    SET_32K,
    SET_64X1,
    SET_WITH_REVISION,
    SHORT_SET_8X64,
    SMALL_SCOPE,
    UNWATCHED_8X1,
    UNWATCHED_8X64,
    WATCHED_8X64,
    WITH_TRIGGER,
    Load,
    Rest,
    Run,
    Start,
)

Better = Literal["more", "less"]


class Ratio(msgspec.Struct, frozen=True):
    """The rate of one run as a multiple of another's."""

    over: Run
    under: Run


class Figure(msgspec.Struct, frozen=True):
    """One member of a run's sample times `scale`; `worst`: the largest round, not the median."""

    run: Run
    member: str
    scale: float = 1.0
    worst: bool = False


Quantity = Ratio | Figure


class Goal(msgspec.Struct, frozen=True):
    """A line of the table of goals; `name` is what `--rows` looks for."""

    name: str
    title: str
    quantity: Quantity
    must: float | None = None
    aim: float | None = None
    better: Better = "more"
    unit: str = ""

    @property
    def runs(self) -> tuple[Run, ...]:
        """What has to run for it."""
        if isinstance(self.quantity, Ratio):
            return (self.quantity.over, self.quantity.under)
        return (self.quantity.run,)


def against_redis(name: str, load: Load, must: float, aim: float) -> Goal:
    """The goal of a durable load beside Redis that syncs every write."""
    pair = Ratio(Run(DURABLE, load), Run(REDIS_ALWAYS, load))
    return Goal(name, f"durable {load.name} / Redis `always`", pair, must, aim)


GOALS = (
    against_redis("set-8x64", SET_8X64, 0.45, 0.8),
    against_redis("set-64x1", SET_64X1, 0.7, 1.0),
    against_redis("set-8x1", SET_8X1, 0.8, 1.8),
    against_redis("set-1x1", SET_1X1, 0.8, 1.0),
    against_redis("set-1k", SET_1K, 0.45, 0.8),
    against_redis("set-32k", SET_32K, 0.45, 0.8),
    Goal(
        "memory",
        "memory set 8x64 / durable set 8x64",
        Ratio(Run(MEMORY, SET_8X64), Run(DURABLE, SET_8X64)),
        aim=1.5,
        better="less",
    ),
    Goal(
        "hot-in-big",
        "durable set 8x64 on 10,000 hot keys in a scope of 1M / in a small scope",
        Ratio(Run(BIG, HOT_IN_BIG), Run(BIG, SMALL_SCOPE)),
        0.9,
        1.0,
    ),
    Goal(
        "random-in-big",
        "durable set 8x64 at random over all 1M keys / in a small scope",
        Ratio(Run(BIG, ALL_OF_BIG), Run(BIG, SMALL_SCOPE)),
        0.5,
        0.75,
    ),
    Goal(
        "trigger",
        "durable set 8x1 with a trigger whose handler is connected / without",
        Ratio(Run(DURABLE, WITH_TRIGGER), Run(DURABLE, UNWATCHED_8X1)),
        0.4,
        0.6,
    ),
    Goal(
        "trigger-8x64",
        "durable set 8x64 with a trigger whose handler is connected / without",
        Ratio(Run(DURABLE, WATCHED_8X64), Run(DURABLE, UNWATCHED_8X64)),
        0.4,
        0.6,
    ),
    Goal(
        "trigger-durable",
        "the same with a durable trigger / with a plain one",
        Ratio(Run(DURABLE, DURABLY_WATCHED_8X64), Run(DURABLE, WATCHED_8X64)),
        0.7,
        0.9,
    ),
    Goal(
        "trigger-others",
        "durable set 8x64 with 10,000 triggers of other scopes / with none",
        Ratio(Run(DURABLE, OTHERS_WATCHED_8X64), Run(DURABLE, UNWATCHED_8X64)),
        0.9,
        1.0,
    ),
    Goal(
        "set-revision",
        "durable set 8x64 with `with_revision` / without",
        Ratio(Run(DURABLE, SET_WITH_REVISION), Run(DURABLE, SHORT_SET_8X64)),
        0.95,
        1.0,
    ),
    Goal(
        "get-revision",
        "get 8x64 with `with_revision` / without",
        Ratio(Run(DURABLE, GET_WITH_REVISION), Run(DURABLE, GET_8X64)),
        0.95,
        1.0,
    ),
    Goal(
        "latency-p50",
        "commit to handler start at 1,000 writes/s, from when the set was due: p50",
        Figure(Run(DURABLE, PACED), "lag_p50", 0.001),
        3,
        1,
        "less",
        "ms",
    ),
    Goal(
        "latency-p99",
        "the same: p99",
        Figure(Run(DURABLE, PACED), "lag_p99", 0.001),
        10,
        5,
        "less",
        "ms",
    ),
    Goal(
        "fan-out",
        "one write, 1,000 matching triggers, from when the set was due: all started, median",
        Figure(Run(DURABLE, FANNED_OUT), "lag_p50", 0.001),
        1000,
        100,
        "less",
        "ms",
    ),
    Goal(
        "fan-out-worst",
        "the same: slowest of all writes",
        Figure(Run(DURABLE, FANNED_OUT), "lag_worst", 0.001, worst=True),
        1000,
        100,
        "less",
        "ms",
    ),
    Goal(
        "catch-up",
        "catch up of a durable trigger 1,000,000 changes behind, 100,000 keys",
        Figure(Run(DURABLE, BEHIND), "event_rate", 0.001),
        30,
        100,
        unit="K events/s",
    ),
    Goal(
        "start",
        "start with 1M keys x 200 B",
        Figure(Run(BIG, Start()), "seconds"),
        6,
        2,
        "less",
        "s",
    ),
    Goal(
        "memory-idle",
        "resident memory, 1M keys of 36 characters, idle",
        Figure(Run(BIG, Rest()), "memory_mb", worst=True),
        450,
        300,
        "less",
        "MB",
    ),
    Goal(
        "memory-loaded",
        "resident memory, the same, under load",
        Figure(Run(BIG, MIX_OF_BIG), "memory_mb", worst=True),
        450,
        300,
        "less",
        "MB",
    ),
    Goal(
        "compaction",
        "worst pause while compacting: p99.9, set 200 B over 1M keys, 8x64",
        Figure(Run(COMPACTING, OVERWRITE), "p999", 0.001, worst=True),
        100,
        30,
        "less",
        "ms",
    ),
)
