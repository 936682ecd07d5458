"""Removing many keys: some at a time, each time as one commit, each with its event."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from iii_state.core.commands import Delete, Get, ListKeys, Outcome, Transact
from iii_state.engine.calls import Call
from iii_state.engine.commits import Commits
from iii_state.engine.invocations import Failure
from iii_state.engine.timers import Timers
from iii_state.errors import StateError, StoreDamaged

CHANGES_PER_COMMIT_MAX = 1000

BYTES_PER_COMMIT_MAX = 8 << 20
"""Old values that are held in memory for a commit, and the one that is more than that."""

KEYS_BYTES_MAX = 1 << 40
"""The keys of a page go nowhere: only their number is bounded."""


class Clearing:
    """Removes the keys with a prefix that a revision or one before it made, then answers a call.

    It is not atomic: others see it half done, and a stop of the server, or an error, leaves it so.
    Keys made meanwhile stay; those that are only written again go.
    """

    def __init__(
        self,
        call: Call,
        scope: str,
        prefix: str,
        made_by: int,
        commits: Commits,
        timers: Timers,
    ) -> None:
        self._call = call
        self._scope = scope
        self._prefix = prefix
        self._commits = commits
        self._timers = timers
        self._made_by = made_by
        self._after: str | None = None
        self._keys: list[str] = []
        self._has_more = True
        self._deleted = 0
        self._last_revision = 0

    def begin(self, noted: Outcome | None) -> None:
        """Begin, once what was noted of it is durable, if anything was.

        Raises:
            StateError: as `go_on`.
        """
        if noted is None:
            self.go_on()
        else:
            self._commits.await_note(self._step(self._again), noted, _end)

    def go_on(self) -> None:
        """Do the next part, and answer when there is none.

        Raises:
            StateError: the store refuses; nothing more is removed.
        """
        if self._keys:
            self._delete()
        elif self._has_more:
            limit = CHANGES_PER_COMMIT_MAX + 1
            command = ListKeys(self._scope, KEYS_BYTES_MAX, self._prefix, self._after, limit)
            self._commits.submit(self._step(self._again), command, self._listed)
        else:
            self._call.answer(
                b'{"deleted":%d,"last_revision":%d}' % (self._deleted, self._last_revision)
            )

    def _listed(self, call: Call, outcome: Outcome) -> None:
        names = [msgspec.json.decode(name, type=str) for name in outcome.values]
        self._has_more = len(names) > CHANGES_PER_COMMIT_MAX
        self._keys = names[:CHANGES_PER_COMMIT_MAX][::-1]
        if names:
            self._after = self._keys[0]
        call.answer(None)

    def _delete(self) -> None:
        """Remove those that are listed and still there, as many as one commit takes."""
        scope, origin = self._scope, self._call.origin
        writes: list[Delete] = []
        size = 0
        while self._keys and size < BYTES_PER_COMMIT_MAX:
            key = self._keys.pop()
            try:
                entry = self._commits.peek(Get(scope, key)).entry
            except StoreDamaged:  # it can be deleted all the same
                writes.append(Delete(scope, key, origin))
                continue
            if entry is not None and entry.created_revision <= self._made_by:
                writes.append(Delete(scope, key, origin))
                size += len(entry.value)
        if writes:
            command = Transact((), tuple(writes))
            self._commits.submit(self._step(self._again), command, self._gone)
        else:
            self._again()

    def _gone(self, call: Call, outcome: Outcome) -> None:
        self._deleted += len(outcome.results)
        self._last_revision = outcome.results[-1][0].revision
        call.answer(None)

    def _again(self) -> None:
        """Go on in the next turn: others come in between, and the stack does not grow."""
        self._timers.call_soon(self._next)

    def _next(self) -> None:
        try:
            self.go_on()
        except StateError as error:
            self._fail(Failure(error.wire_code, error.message), error.details)

    def _step(self, done: Callable[[], None]) -> Step:
        call = self._call
        return Step(
            call.function,
            b"",
            call.invocation_id,
            origin=call.origin,
            caller=call.caller,
            done=done,
            failed=self._fail,
        )

    def _fail(self, failure: Failure, details: dict[str, object] | None) -> None:
        done = {"deleted": self._deleted, "last_revision": self._last_revision}
        self._call.fail(failure, {**(details or {}), **done})


def _end(call: Call, outcome: Outcome) -> None:
    call.answer(None)


class Step(Call):
    """A part of a call, whose end is not that of the call."""

    done: Callable[[], None] = lambda: None
    failed: Callable[[Failure, dict[str, object] | None], None] = lambda _, __: None

    def answer(self, result: bytes | None, before: bytes = b"", after: bytes = b"") -> None:
        """See `Call.answer`."""
        self.done()

    def fail(self, failure: Failure, details: dict[str, object] | None = None) -> None:
        """See `Call.fail`."""
        self.failed(failure, details)
