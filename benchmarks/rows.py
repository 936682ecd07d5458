"""What the benchmark runs, as data: servers, loads, and groups of both.

To add a row: add its runs to a group in `GROUPS`, and a goal to `goals.py`.
"""

from __future__ import annotations

from itertools import product
from typing import Literal

import msgspec

Operation = Literal["set", "get", "update", "mix"]

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

    With a `rate`, so many sets a second at even intervals instead, whatever comes back; `depth` is
    then how many may be in flight at most.

    With a `handler`, the scope's changes are bound to it by so many `triggers`, under the name
    `durable` if there is one; or, instead of them, those of `others`, scopes that nothing is
    written to.
    """

    operation: Operation
    connections: int
    depth: int
    value_bytes: int = 100
    scope: str = "bench"
    keys: int = HOT_KEYS
    long_keys: bool = False
    rate: int = 0
    handler: bool = False
    triggers: int = 1
    durable: str = ""
    others: int = 0
    with_revision: bool = False
    seconds: float | None = None

    @property
    def name(self) -> str:
        """For people: `set 1 KB 8x64`."""
        size = self.value_bytes
        shown = f"{size} B" if size < 1000 else f"{size // 1024 or 1} KB"
        shape = f"at {self.rate:,}/s" if self.rate else f"{self.connections}x{self.depth}"
        return f"{self.operation} {shown} {shape}"


class CatchUp(msgspec.Struct, frozen=True):
    """Leave a durable trigger so many `changes` behind, over `keys` keys, then run its handler.

    Measured from before the handler connects until the server has read its last result.
    """

    changes: int
    keys: int
    scope: str = "behind"

    @property
    def name(self) -> str:
        """For people."""
        return f"catch up {self.changes:,} changes of {self.keys:,} keys"


class Start(msgspec.Struct, frozen=True):
    """Stop the server, start it again, and wait until it answers a `state::get`."""

    name: str = "start"


class Rest(msgspec.Struct, frozen=True):
    """Watch the server while nothing is asked of it."""

    name: str = "rest"


class Run(msgspec.Struct, frozen=True):
    """One thing to measure on one server, once a round."""

    target: Target
    action: Load | Start | Rest | CatchUp


class Group(msgspec.Struct, frozen=True):
    """Runs whose servers are up together, and which take turns in every round.

    `rounds_max` is for what takes so long that a few rounds must do, `rounds_times` for what lies
    so close together that the usual ones cannot tell it apart.
    """

    title: str
    runs: tuple[Run, ...]
    rounds_max: int | None = None
    rounds_times: int = 1

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every server of the group once, in order."""
        return tuple(dict.fromkeys(run.target for run in self.runs))


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
SET_1K = Load("set", 8, 64, 1024, "bench-1k")
SET_32K = Load("set", 8, 1, 32_768, "bench-32k")
LOADS = (SET_8X64, SET_64X1, SET_8X1, SET_1X1, SET_1K, SET_32K)
WITH_TRIGGER = Load("set", 8, 1, scope="watched", handler=True)
SHORT_S = 0.5
GET_8X64 = Load("get", 8, 64, seconds=SHORT_S)
GET_WITH_REVISION = Load("get", 8, 64, with_revision=True, seconds=SHORT_S)
SHORT_SET_8X64 = Load("set", 8, 64, seconds=SHORT_S)
SET_WITH_REVISION = Load("set", 8, 64, with_revision=True, seconds=SHORT_S)
WATCHED_8X64 = Load("set", 8, 64, scope="watched", handler=True)
DURABLY_WATCHED_8X64 = Load("set", 8, 64, scope="durably", handler=True, durable="bench")
UNWATCHED_8X1 = Load("set", 8, 1, scope="unwatched")
UNWATCHED_8X64 = Load("set", 8, 64, scope="unwatched")
OTHERS_WATCHED_8X64 = Load("set", 8, 64, scope="unwatched", handler=True, others=10_000)
REACTIONS = (
    UNWATCHED_8X1,
    WITH_TRIGGER,
    UNWATCHED_8X64,
    OTHERS_WATCHED_8X64,
    WATCHED_8X64,
    DURABLY_WATCHED_8X64,
)
PACED = Load("set", 1, 1024, scope="paced", rate=1000, handler=True)
FANNED_OUT = Load("set", 1, 1024, scope="fan", rate=10, handler=True, triggers=1000)
BEHIND = CatchUp(changes=MILLION, keys=100_000)

SMALL_SCOPE = Load("set", 8, 64, scope="small", long_keys=True)
HOT_IN_BIG = Load("set", 8, 64, scope=BIG_SCOPE, long_keys=True)
ALL_OF_BIG = Load("set", 8, 64, scope=BIG_SCOPE, keys=MILLION, long_keys=True)
MIX_OF_BIG = Load("mix", 8, 64, scope=BIG_SCOPE, keys=MILLION, long_keys=True)
OVERWRITE = Load("set", 8, 64, 200, BIG_SCOPE, MILLION, long_keys=True, seconds=10)

GROUPS = (
    Group(
        "Side by side",
        tuple(Run(target, load) for load in LOADS for target in SIDE_BY_SIDE),
    ),
    Group("Beside triggers", tuple(Run(DURABLE, load) for load in REACTIONS)),
    Group(
        "Close together: twelve times the rounds, of half a second",
        (
            Run(DURABLE, SHORT_SET_8X64),
            Run(DURABLE, SET_WITH_REVISION),
            Run(DURABLE, GET_8X64),
            Run(DURABLE, GET_WITH_REVISION),
        ),
        rounds_times=12,
    ),
    Group("From write to handler", (Run(DURABLE, PACED), Run(DURABLE, FANNED_OUT))),
    Group("Catching up, one round", (Run(DURABLE, BEHIND),), rounds_max=1),
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


def select(groups: tuple[Group, ...], wanted: frozenset[Run]) -> tuple[Group, ...]:
    """The groups with only the `wanted` runs, without those that are then empty."""
    kept = (
        msgspec.structs.replace(group, runs=tuple(run for run in group.runs if run in wanted))
        for group in groups
    )
    return tuple(group for group in kept if group.runs)
