"""The rows of the benchmark as data: servers, loads, and the goals that compare them.

To add a row: add its runs to a group in `GROUPS` and a `Goal` to `GOALS`.
"""

from __future__ import annotations

from itertools import product
from typing import Literal

import msgspec

Operation = Literal["set", "get", "update", "mix"]
Better = Literal["more", "less"]

MILLION = 1_000_000
HOT_KEYS = 10_000
BIG_SCOPE = "big"
LONG_KEY_PREFIX = "user-profile-document-key-"
LONG_KEY_DIGITS = 10


class Target(msgspec.Struct, frozen=True):
    """A server to measure: a kind, with flags and variables for its settings.

    `fill` is the number of keys that scope `BIG_SCOPE` holds before the first round (36 characters,
    values of 200 bytes). `helper_core` lets the server use the load's core as well, which is where
    its compaction runs on a machine with two.
    """

    name: str
    kind: Literal["state", "redis"]
    flags: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    fill: int = 0
    helper_core: bool = False


class Load(msgspec.Struct, frozen=True):
    """What is sent: an operation from `connections` connections with `depth` in flight on each.

    With a `handler`, the scope's changes are bound to it, under the name `durable` if there is one;
    or, instead of them, those of `others`, scopes that nothing is written to.
    """

    operation: Operation
    connections: int
    depth: int
    value_bytes: int = 100
    scope: str = "bench"
    keys: int = HOT_KEYS
    long_keys: bool = False
    handler: bool = False
    durable: str = ""
    others: int = 0
    with_revision: bool = False
    seconds: float | None = None

    @property
    def name(self) -> str:
        """For people: `set 1 KB 8x64`."""
        size = self.value_bytes
        shown = f"{size} B" if size < 1000 else f"{size // 1024 or 1} KB"
        return f"{self.operation} {shown} {self.connections}x{self.depth}"


class Start(msgspec.Struct, frozen=True):
    """Stop the server, start it again, and wait until it answers a `state::get`."""

    name: str = "start"


class Rest(msgspec.Struct, frozen=True):
    """Watch the server while nothing is asked of it."""

    name: str = "rest"


class Run(msgspec.Struct, frozen=True):
    """One thing to measure on one server, once a round."""

    target: Target
    action: Load | Start | Rest


class Group(msgspec.Struct, frozen=True):
    """Runs whose servers are up together, and which take turns in every round."""

    title: str
    runs: tuple[Run, ...]

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every server of the group once, in order."""
        return tuple(dict.fromkeys(run.target for run in self.runs))


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


DURABLE = Target("durable", "state")
MEMORY = Target("memory", "state", ("--in-memory",))
REDIS_ALWAYS = Target("redis always", "redis", ("--appendfsync", "always"))
REDIS_EVERYSEC = Target("redis everysec", "redis", ("--appendfsync", "everysec"))
REDIS_NO = Target("redis no", "redis", ("--appendfsync", "no"))
SIDE_BY_SIDE = (DURABLE, MEMORY, REDIS_ALWAYS, REDIS_EVERYSEC, REDIS_NO)

BIG = Target("durable, 1M keys", "state", fill=MILLION)
COMPACTING = Target(
    "durable, 1M keys, compacting",
    "state",
    environment=(("III_STATE_HISTORY_BYTES", "64MiB"),),
    fill=MILLION,
    helper_core=True,
)

SET_8X64 = Load("set", 8, 64)
SET_64X1 = Load("set", 64, 1)
SET_8X1 = Load("set", 8, 1)
SET_1X1 = Load("set", 1, 1)
SET_1K = Load("set", 8, 64, 1024)
SET_32K = Load("set", 8, 1, 32_768)
LOADS = (SET_8X64, SET_64X1, SET_8X1, SET_1X1, SET_1K, SET_32K)
WITH_TRIGGER = Load("set", 8, 1, scope="watched", handler=True)
GET_8X64 = Load("get", 8, 64)
SET_WITH_REVISION = Load("set", 8, 64, with_revision=True)
GET_WITH_REVISION = Load("get", 8, 64, with_revision=True)
WATCHED_8X64 = Load("set", 8, 64, scope="watched", handler=True)
DURABLY_WATCHED_8X64 = Load("set", 8, 64, scope="durably", handler=True, durable="bench")
OTHERS_WATCHED_8X64 = Load("set", 8, 64, scope="unwatched", handler=True, others=10_000)
REACTIONS = (
    SET_WITH_REVISION,
    GET_8X64,
    GET_WITH_REVISION,
    WATCHED_8X64,
    DURABLY_WATCHED_8X64,
    OTHERS_WATCHED_8X64,
)

SMALL_SCOPE = Load("set", 8, 64, scope="small", long_keys=True)
HOT_IN_BIG = Load("set", 8, 64, scope=BIG_SCOPE, long_keys=True)
ALL_OF_BIG = Load("set", 8, 64, scope=BIG_SCOPE, keys=MILLION, long_keys=True)
MIX_OF_BIG = Load("mix", 8, 64, scope=BIG_SCOPE, keys=MILLION, long_keys=True)
OVERWRITE = Load("set", 8, 64, 200, BIG_SCOPE, MILLION, long_keys=True, seconds=10)

GROUPS = (
    Group(
        "Side by side",
        (
            *(Run(target, load) for load in LOADS for target in SIDE_BY_SIDE),
            Run(DURABLE, WITH_TRIGGER),
            *(Run(DURABLE, load) for load in REACTIONS),
        ),
    ),
    Group(
        "A scope with 1M keys",
        (
            Run(BIG, Rest()),
            Run(BIG, SMALL_SCOPE),
            Run(BIG, HOT_IN_BIG),
            Run(BIG, ALL_OF_BIG),
            Run(BIG, MIX_OF_BIG),
            Run(BIG, Start()),
        ),
    ),
    Group("Compaction", (Run(COMPACTING, OVERWRITE),)),
)

GRID_SHAPES = ((1, 1), (8, 1), (64, 1), (1, 64), (8, 64), (64, 64))
GRID_SIZES = (100, 1024, 32_768)
GRID_OPERATIONS: tuple[Operation, ...] = ("set", "get", "update", "mix")
REDIS_OPERATIONS = ("set", "get")

GRID = tuple(
    Group(
        f"{operation.capitalize()}, {size:,} B",
        tuple(
            Run(target, Load(operation, *shape, size))
            for shape, target in product(GRID_SHAPES, SIDE_BY_SIDE)
            if target.kind == "state" or operation in REDIS_OPERATIONS
        ),
    )
    for operation, size in product(GRID_OPERATIONS, GRID_SIZES)
)


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
        Ratio(Run(DURABLE, WITH_TRIGGER), Run(DURABLE, SET_8X1)),
        0.4,
        0.6,
    ),
    Goal(
        "trigger-8x64",
        "durable set 8x64 with a trigger whose handler is connected / without",
        Ratio(Run(DURABLE, WATCHED_8X64), Run(DURABLE, SET_8X64)),
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
        Ratio(Run(DURABLE, OTHERS_WATCHED_8X64), Run(DURABLE, SET_8X64)),
        0.9,
        1.0,
    ),
    Goal(
        "set-revision",
        "durable set 8x64 with `with_revision` / without",
        Ratio(Run(DURABLE, SET_WITH_REVISION), Run(DURABLE, SET_8X64)),
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


def select(groups: tuple[Group, ...], wanted: frozenset[Run]) -> tuple[Group, ...]:
    """The groups with only the `wanted` runs, without those that are then empty."""
    kept = (Group(g.title, tuple(run for run in g.runs if run in wanted)) for g in groups)
    return tuple(group for group in kept if group.runs)
