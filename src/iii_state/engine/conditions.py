"""What a write may ask for beside itself: on what condition, how often, until when.

A write without any of it is submitted as it is. With `if_revision` it becomes a transaction with a
guard; with an idempotency key, what it did is noted beside the data in the same commit, so that a
repetition is answered and not carried out again.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from itertools import islice
from typing import Annotated

import msgspec

from iii_state.core.commands import Get, Guard, Outcome, Result, Transact, Write
from iii_state.core.operations import OperationError
from iii_state.core.store import Store
from iii_state.core.values import decode_members, encode_text
from iii_state.engine.calls import Call
from iii_state.engine.commits import Answer, Commits
from iii_state.errors import AlreadyDone, Conflict, InvalidRequest, RevisionCompacted, TooLate

IDEMPOTENCY = 23
"""The kind of note: named by function, scope, key and the caller's key as a JSON array."""

REMEMBERED_MS = 600_000
REMEMBERED_MAX = 100_000
KEY_BYTES_MAX = 1024
DEADLINE_MS_MIN = 100_000_000_000
"""A smaller one is no time since the epoch, but a length of time."""


Revision = Annotated[int, msgspec.Meta(ge=0)]
"""That of what a key holds; 0: nothing."""


class RepeatOptions(msgspec.Struct, gc=False, kw_only=True):
    """What every write may ask for. `deadline_ms` is a time in milliseconds since the epoch."""

    idempotency_key: str | None = None
    deadline_ms: int | None = None


class WriteOptions(RepeatOptions, gc=False, kw_only=True):
    """What a write that makes one commit may ask for."""

    with_revision: bool | None = None
    if_revision: Revision | None = None


class Done(msgspec.Struct, frozen=True, array_like=True):
    """What is noted of a write with an idempotency key: the request, and the changes it made.

    Of what is not one commit (`begin`), both are the newest revision when it was taken up.
    """

    digest: bytes
    at_ms: int
    first_revision: int
    last_revision: int
    errors: list[list[OperationError]]


class Beginning(msgspec.Struct, frozen=True):
    """How something began that is not one commit.

    `revision` was the newest one when it was first taken up, which is now if `is_first`. What is
    noted of it must be durable before it is answered: then `noted` is that.
    """

    revision: int
    is_first: bool = True
    noted: Outcome | None = None


class Conditions:
    """Submits writes on the conditions that they come with."""

    def __init__(self, store: Store, commits: Commits, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._commits = commits
        self._clock_ms = clock_ms
        self._pending: dict[str, Outcome] = {}

    def submit(self, call: Call, options: WriteOptions, command: Write, answer: Answer) -> None:
        """Carry out one write.

        Raises:
            InvalidRequest: an option makes no sense.
            TooLate: its deadline has passed.
            StateError: as `Commits.submit`. A failing `if_revision` fails the call with `Conflict`.
        """
        guards: tuple[Guard, ...] = ()
        if options.if_revision is not None:
            guards = (Guard(command.scope, command.key, revision=options.if_revision),)
        self.transact(call, options, Transact(guards, (command,)), _of_one(answer))

    def transact(
        self, call: Call, options: WriteOptions, command: Transact, answer: Answer
    ) -> None:
        """Carry out a transaction; `answer` is given its outcome, or an equal one from memory.

        Raises:
            as `submit`.
        """
        self._require_in_time(options.deadline_ms)
        if options.idempotency_key is None:
            self._commits.submit(call, command, answer)
            return
        first = command.writes[0]
        name = _name(call.function_id, first.scope, first.key, options.idempotency_key)
        digest = _digest(call)
        now_ms = self._clock_ms()
        done = self._done(name, digest, now_ms)
        if done is not None:
            self._answer_again(call, name, first, done, answer)
            return
        self._forget_old(now_ms)

        def remember(outcome: Outcome) -> None:
            if outcome.change is None:
                return
            self._drop_settled()
            self._pending[name] = outcome
            results = outcome.results
            made = Done(
                digest,
                now_ms,
                results[0][0].revision,
                results[-1][0].revision,
                [list(errors) for _, errors in results],
            )
            self._store.note(IDEMPOTENCY, name, msgspec.msgpack.encode(made), is_tied=True)

        self._commits.submit(call, command, answer, remember)

    def begin(self, call: Call, options: RepeatOptions, scope: str, name: str) -> Beginning:
        """Take up what is not one commit; it is told from others by scope and name.

        Raises:
            InvalidRequest, TooLate: as `submit`.
        """
        self._require_in_time(options.deadline_ms)
        revision = self._store.executed_revision
        if options.idempotency_key is None:
            return Beginning(revision)
        note = _name(call.function_id, scope, name, options.idempotency_key)
        digest = _digest(call)
        now_ms = self._clock_ms()
        done = self._done(note, digest, now_ms)
        is_first = done is None
        if done is None:
            self._forget_old(now_ms)
            done = Done(digest, now_ms, revision, revision, [])
        payload = msgspec.msgpack.encode(done)
        noted = self._store.note(IDEMPOTENCY, note, payload, is_tied=True)
        return Beginning(done.first_revision, is_first, noted)

    def _done(self, name: str, digest: bytes, now_ms: int) -> Done | None:
        """What is remembered of an earlier request.

        Raises:
            InvalidRequest: that was another one.
        """
        noted = self._store.notes(IDEMPOTENCY).get(name)
        if noted is None:
            return None
        done = msgspec.msgpack.decode(noted, type=Done)
        if now_ms - done.at_ms > REMEMBERED_MS:
            return None
        if done.digest != digest:
            raise InvalidRequest(
                "this idempotency_key was used for another request; use a new one for each write",
                code="IDEMPOTENCY_MISMATCH",
                revision=done.last_revision,
            )
        return done

    def _answer_again(
        self, call: Call, name: str, first: Write, done: Done, answer: Answer
    ) -> None:
        pending = self._pending.get(name)

        def answer_again(call: Call, outcome: Outcome) -> None:
            if pending is not None and pending.failure is not None:
                raise pending.failure
            answer(call, pending if pending is not None else self._outcome_of(done))

        # The read waits until what the first request did is durable.
        self._commits.submit(call, Get(first.scope, first.key), answer_again)

    def _outcome_of(self, done: Done) -> Outcome:
        count = done.last_revision - done.first_revision + 1
        try:
            changes = self._store.changes(done.first_revision - 1, count, 1 << 62)
        except RevisionCompacted as error:
            raise AlreadyDone(
                f"this was carried out before, at revision {done.last_revision}; what it answered "
                f"is no longer kept",
                revision=done.last_revision,
            ) from error
        results: list[Result] = [
            (change, tuple(errors)) for change, errors in zip(changes, done.errors, strict=True)
        ]
        return Outcome(True, results[-1][0], results=results)

    def _drop_settled(self) -> None:
        """Forget outcomes that can be read from the change log now, or failed."""
        for name, outcome in list(islice(self._pending.items(), 2)):
            change = outcome.change
            if change is None or change.revision <= self._store.revision:
                del self._pending[name]

    def _forget_old(self, now_ms: int) -> None:
        """Forget what is too old or too much: a few at a time, the oldest first."""
        notes = self._store.notes(IDEMPOTENCY)
        for _ in range(2):
            oldest = next(iter(notes.items()), None)
            if oldest is None:
                return
            name, payload = oldest
            age_ms = now_ms - msgspec.msgpack.decode(payload, type=Done).at_ms
            if age_ms <= REMEMBERED_MS and len(notes) < REMEMBERED_MAX:
                return
            self._store.note(IDEMPOTENCY, name, None)

    def _require_in_time(self, deadline_ms: int | None) -> None:
        if deadline_ms is None:
            return
        if deadline_ms < DEADLINE_MS_MIN:
            raise InvalidRequest(
                f"`deadline_ms` is {deadline_ms}, expected a time in milliseconds since the epoch"
            )
        late_ms = self._clock_ms() - deadline_ms
        if late_ms > 0:
            raise TooLate(
                f"this was taken up {late_ms} ms after its deadline_ms; nothing changed",
                late_ms=late_ms,
            )


def _of_one(answer: Answer) -> Answer:
    def answer_one(call: Call, outcome: Outcome) -> None:
        if outcome.failed:
            entry = outcome.failed[0][1]
            revision = entry.revision if entry is not None else 0
            raise Conflict(
                f"the key is at revision {revision}, not at the one that if_revision says; nothing "
                f"changed. Read it again and decide anew",
                revision=revision,
            )
        change, errors = outcome.results[0]
        answer(call, Outcome(True, change, errors))

    return answer_one


def _name(function_id: str, scope: str, key: str, idempotency_key: str) -> str:
    if len(idempotency_key.encode()) > KEY_BYTES_MAX:
        raise InvalidRequest(f"`idempotency_key` has more than {KEY_BYTES_MAX} bytes")
    return msgspec.json.encode((function_id, scope, key, idempotency_key)).decode()


def _digest(call: Call) -> bytes:
    """The same for requests with the same members, in any order; when it is too late may differ."""
    members = decode_members(call.data)
    members.pop("deadline_ms", None)
    text = b",".join(
        b"%b:%b" % (encode_text(name), bytes(members[name])) for name in sorted(members)
    )
    return blake2b(text, digest_size=16).digest()
