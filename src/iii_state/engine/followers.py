"""A binding that is being served: whose it is, how far it has got, how it fares."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

import msgspec

from iii_state.core.bindings import Binding
from iii_state.core.changes import Change
from iii_state.core.checkpoints import Checkpoint
from iii_state.core.deliveries import Deliveries
from iii_state.core.delivery import Counters
from iii_state.engine.alarms import Alarm
from iii_state.engine.initial import InitialEntries
from iii_state.engine.invocations import Failure

if TYPE_CHECKING:
    from iii_state.engine.feed import Cohort
    from iii_state.engine.firings import Firing

log = logging.getLogger("iii_state.reactions")

LOG_INTERVAL_S = 10.0
"""A binding whose function keeps failing in one way is logged once in this time."""

Condition = Literal["live", "behind", "full", "paused", "detached"]
"""Told from memory; reading on from the store; taking no more for now; told to start nothing; its
worker is away."""


class LastError(msgspec.Struct, frozen=True):
    """The latest failure of a binding's function or condition, and the event it was about."""

    code: str
    message: str
    revision: int


class BindingStatus(msgspec.Struct, frozen=True):
    """What discovery tells of a binding. `members` are the ids under which it is bound now.

    Everything up to revision `cursor` is done; `lag` is how far the store is ahead of that. Of
    those `waiting`, some are `sleeping`: until their next attempt, or for a newer event. `lost` is
    the latest range of revisions that were no longer kept when the binding came to them.
    """

    binding: Binding
    owner: Hashable
    members: tuple[str, ...]
    condition: Condition
    counters: Counters
    cursor: int
    lag: int
    in_flight: int
    waiting: int
    sleeping: int
    dead_letters: int
    paused: bool
    lost: tuple[int, int] | None
    last_error: LastError | None


class Follower:
    """One binding on the feed.

    `members` are the bindings that it serves, by id, in the order in which they were bound: one,
    more if it is durable and others share its work. `binding` and `owner` are the latest; `owner`
    is `None` while all are away, then nothing is delivered. `cohort` is with whom it reads, None
    while it reads nothing. `absence` tells one absence from another. `initial` is set while it
    reads the entries that were there when it began, at the revision `initial_up_to`.
    `alarm` wakes it, if time matters to it. `gone` means that it was unbound, or replaced.
    """

    __slots__ = (
        "_errors_unlogged",
        "_logged_at",
        "_logged_code",
        "_warned_of_no_result",
        "absence",
        "alarm",
        "binding",
        "cohort",
        "deliveries",
        "firings",
        "gone",
        "initial",
        "initial_up_to",
        "last_error",
        "members",
        "owner",
        "place",
    )

    def __init__(
        self,
        place: int,
        binding: Binding,
        deliveries: Deliveries,
        initial_up_to: int | None = None,
    ) -> None:
        self.place = place
        self.binding = binding
        self.owner: Hashable | None = None
        self.members: dict[str, tuple[Binding, Hashable]] = {}
        self.deliveries = deliveries
        self.firings: dict[int, Firing] = {}
        """What is under way, by revision, if time matters to it."""
        self.cohort: Cohort | None = None
        self.absence: object = None
        self.alarm: Alarm | None = None
        self.gone = False
        self.initial: InitialEntries | None = None
        self.initial_up_to = initial_up_to
        self.last_error: LastError | None = None
        self._warned_of_no_result = False
        self._logged_code = ""
        self._logged_at = 0.0
        self._errors_unlogged = 0

    @property
    def name(self) -> str:
        """What it is called by: a durable one by its name, else by the id of its binding."""
        return self.binding.config.durable or self.binding.id

    @property
    def is_durable(self) -> bool:
        """Whether it goes on after a restart."""
        return self.binding.config.durable is not None

    def join(self, binding: Binding, owner: Hashable) -> None:
        """Serve a binding, too."""
        self.members.pop(binding.id, None)
        self.members[binding.id] = binding, owner
        self.binding, self.owner = binding, owner

    def part(self, binding_id: str) -> None:
        """Serve one of its bindings no longer."""
        del self.members[binding_id]
        if self.members:
            self.binding, self.owner = next(reversed(self.members.values()))
        else:
            self.owner = None

    def is_before(self, change: Change) -> bool:
        """Whether it has not got there among the entries; and it may not come there, as it is."""
        return self.initial is not None and change.revision > self.deliveries.position

    def checkpoint(self, read_up_to: int) -> Checkpoint:
        """How far it has got, if it has nothing to read any more up to `read_up_to`."""
        checkpoint = self.deliveries.checkpoint(read_up_to)
        if self.initial is None or not self.initial.untaken:
            return checkpoint
        pending = sorted([*checkpoint.pending, *self.initial.untaken], key=attrgetter("revision"))
        return msgspec.structs.replace(checkpoint, pending=tuple(pending))

    @property
    def read_up_to(self) -> int:
        """The revision up to which it has seen everything, matching or not."""
        position = self.deliveries.position
        return position if self.cohort is None else max(position, self.cohort.position)

    def note_failure(self, failure: Failure, revision: int, now_s: float) -> None:
        """Keep a failure for the status, and log it unless just that was logged a moment ago."""
        self.last_error = LastError(failure.code, failure.message, revision)
        recent = now_s - self._logged_at < LOG_INTERVAL_S
        if recent and failure.code == self._logged_code:
            self._errors_unlogged += 1
            return
        log.warning(
            "binding %s: %s failed on revision %d: %s: %s (%d failures since the last such line)",
            self.binding.id,
            self.binding.function_id,
            revision,
            failure.code,
            failure.message,
            self._errors_unlogged,
        )
        self._logged_code, self._logged_at, self._errors_unlogged = failure.code, now_s, 0

    def warn_of_no_result(self) -> None:
        """Say, once, that the condition gives no answer."""
        if self._warned_of_no_result:
            return
        self._warned_of_no_result = True
        log.warning(
            "binding %s: the condition %s returns nothing, which counts as yes; let it return "
            "true or false",
            self.binding.id,
            self.binding.config.condition_function_id,
        )

    def status(self, head: int, read_up_to: int, is_live: bool, dead_letters: int) -> BindingStatus:
        """How it fares, at revision `head`; up to `read_up_to` it has nothing to read any more."""
        deliveries = self.deliveries
        cursor = min(deliveries.cursor(read_up_to), head)
        if self.initial is not None:
            cursor = min([cursor, *(pending.revision - 1 for pending in self.initial.untaken)])
        condition: Condition = "full"
        if self.owner is None:
            condition = "detached"
        elif deliveries.paused:
            condition = "paused"
        elif self.cohort is not None:
            condition = "live" if is_live else "behind"
        elif self.initial is not None:
            condition = "behind"
        return BindingStatus(
            binding=self.binding,
            owner=self.owner,
            members=tuple(self.members),
            condition=condition,
            counters=msgspec.structs.replace(deliveries.counters),
            cursor=cursor,
            lag=head - cursor,
            in_flight=deliveries.in_flight,
            waiting=deliveries.waiting,
            sleeping=deliveries.sleeping,
            dead_letters=dead_letters,
            paused=deliveries.paused,
            lost=deliveries.last_lost,
            last_error=self.last_error,
        )
