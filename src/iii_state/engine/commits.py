"""The one door to the store: commands go in as they arrive, replies come out as commits finish.

A command is executed at once, in order of arrival. What is final at once is answered at once; the
rest waits for the commit that makes it durable. While a commit is on its way to the disk, the next
group gathers behind it: one sync for many writes, and no timer for the last of them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from iii_state.core.changes import Change
from iii_state.core.commands import WRITES, Command, Count, Get, Outcome, Transact
from iii_state.core.store import Store
from iii_state.engine.calls import Call
from iii_state.engine.expiries import Expiries
from iii_state.engine.invocations import Failure
from iii_state.errors import OutcomeUnknown, StateError, StorageError, StoreReadOnly

log = logging.getLogger("iii_state.commits")

GATHERS_MAX = 16
"""Gathering ends after so many times `gather_us`, however many still come."""

Answer = Callable[[Call, Outcome], None]
"""Answers a call with what became of its command, or raises a failure."""


class Commits:
    """Runs commands on the store and answers their calls."""

    def __init__(
        self,
        store: Store,
        committed: Callable[[Sequence[Change]], None],
        *,
        gather_us: int,
        expiries: Expiries,
    ) -> None:
        self.expiries = expiries
        expiries.commit = self.soon
        self._store = store
        self._committed = committed
        self._gather_s = gather_us / 1e6
        self._waiting: list[tuple[Call, Answer, Outcome, int]] = []
        self._committing: list[tuple[Call, Answer, Outcome, int]] = []
        self._is_broken = False
        self._wakeup = asyncio.Event()
        self._reading: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._trouble: str | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def start(self) -> None:
        """Begin to commit. Needs a running event loop."""
        self._task = asyncio.create_task(self._run(), name="commits")

    def submit(
        self,
        call: Call,
        command: Command,
        answer: Answer,
        executed: Callable[[Outcome], None] | None = None,
    ) -> None:
        """Run a command for a call; `answer` is called once the outcome is final.

        `executed` is called at once with what it did; what it notes is kept with that.

        Raises:
            StateError: the store refuses; nothing changed and the call is not answered.
        """
        if self._is_broken:
            _require_read(command)
        expiries = self.expiries
        if expiries.is_used:
            expiries.expire_before(command)
        try:
            outcome = self._store.execute(command)
        except StorageError as error:
            self._note(error)
            raise
        if expiries.is_used:
            expiries.follow(command, outcome)
        if executed is not None:
            executed(outcome)
        if outcome.reading is not None:
            self._read(call, answer, outcome)
        elif not outcome.settled:
            self._wait(call, answer, outcome)
        else:
            answer(call, outcome)
            if outcome.change is not None:
                self._wakeup.set()

    def peek(self, command: Get | Count) -> Outcome:
        """What there is after all that was submitted, be it durable or not."""
        if self.expiries.is_used:
            self.expiries.expire_before(command)
        return self._store.execute(command)

    def await_note(self, call: Call, outcome: Outcome, answer: Answer) -> None:
        """Answer a call once the note that it made is durable."""
        if outcome.settled:
            answer(call, outcome)
        else:
            self._wait(call, answer, outcome)

    def soon(self) -> None:
        """Commit in the next turn."""
        self._wakeup.set()

    async def settled(self) -> None:
        """Wait until all that was submitted so far has been answered."""
        if self._reading:
            await asyncio.wait(self._reading)
        await self._idle.wait()

    async def stop(self) -> None:
        """Commit and answer what is waiting, then end."""
        if self._reading:
            await asyncio.wait(self._reading)
        self._stopping = True
        self._wakeup.set()
        if self._task is not None:
            await asyncio.wait([self._task])  # it may have been cancelled with all other tasks

    async def _run(self) -> None:
        try:
            while not (self._stopping and not self._waiting):
                await self._wakeup.wait()
                self._wakeup.clear()
                self._committing, self._waiting = self._waiting, []
                answered = len(self._committing)
                await self._commit()
                if not self._waiting:
                    self._idle.set()
                if answered:
                    await self._gather(answered)
            await self._commit()
        except asyncio.CancelledError:
            self._break()
            raise
        except Exception:
            log.critical("the store failed in a way that it should not", exc_info=True)
            self._break()

    async def _commit(self) -> None:
        """Commit what was executed, answer those who wait for it, and tell of the changes."""
        executed = self._store.executed_revision
        changes = await self._store.commit()
        settled, self._committing = self._committing, []
        if self._store.executed_revision < executed:
            self.expiries.reload()
        if not self._release(settled):
            self.expiries.reload()
        if not changes:
            return
        self._note(None)
        try:
            self._committed(changes)
        except Exception:
            log.critical("changes were not delivered as they should be", exc_info=True)

    def _break(self) -> None:
        """Fail what waits, and all that would wait from now on: nothing is committed any more."""
        self._is_broken = True
        doubtful = self._committing + self._waiting
        self._committing, self._waiting = [], []
        self._idle.set()
        failure = OutcomeUnknown(
            "The server failed while it wrote: whether this write survives is not known; reads go "
            "on, writes are refused until a restart"
        )
        for call, _, _, weight in doubtful:
            if call.caller is not None:
                call.caller.in_flight.remove(weight)
            self._fail(call, failure)

    def _release(self, settled: list[tuple[Call, Answer, Outcome, int]]) -> bool:
        """Answer calls whose outcome is final; says whether none of them failed."""
        is_whole = True
        caller, calls, size = None, 0, 0
        for call, answer, outcome, weight in settled:
            if call.caller is not caller:
                if caller is not None:
                    caller.answered(calls, size)
                caller, calls, size = call.caller, 0, 0
            calls += 1
            size += weight
            if outcome.reading is not None:  # anew, since the commit failed
                self._read(call, answer, outcome)
            elif outcome.failure is None:
                try:
                    answer(call, outcome)
                except StateError as error:
                    call.fail_with(error)
                except Exception:
                    self._fail_to_answer(call)
            else:
                is_whole = False
                self._fail(call, outcome.failure)
        if caller is not None:
            caller.answered(calls, size)
        return is_whole

    async def _gather(self, answered: int) -> None:
        """Let those just answered come back, so that they share the next sync.

        They are waited for as long as one comes every `gather_us`, beside those that are here
        already. Turns the event loop rather than setting a timer: a timer is late by more than a
        sync takes.
        """
        here = len(self._waiting)
        expected = here + answered
        clock = time.monotonic
        last = clock()
        until = last + GATHERS_MAX * self._gather_s
        while here < expected:
            await asyncio.sleep(0)
            now = clock()
            if len(self._waiting) > here:
                here, last = len(self._waiting), now
            elif now - last > self._gather_s:
                return
            if now > until:
                return

    def _wait(self, call: Call, answer: Answer, outcome: Outcome) -> None:
        if self._is_broken:
            self._fail(call, _refusal())
            return
        if not self._waiting:
            self._idle.clear()
            self._wakeup.set()
        weight = len(call.data)
        call.data = b""  # decoded: the message need not wait for the commit
        change = outcome.change
        if change is not None and change.replaced is not None:
            weight += len(change.replaced.value)
        self._waiting.append((call, answer, outcome, weight))
        caller = call.caller
        if caller is not None:
            caller.in_flight.add(weight)

    def _fail_to_answer(self, call: Call) -> None:
        """A fault of ours, met while a call was answered; the others are answered all the same."""
        log.critical("a call was not answered as it should be", exc_info=True)
        call.fail_with(
            OutcomeUnknown(
                "The server failed while it made the answer; if this was a write, it was carried "
                "out. See the server's log"
            )
        )

    def _fail(self, call: Call, failure: StateError) -> None:
        self._note(failure)
        if call.invocation_id is None:
            log.warning("void call of %s failed: %s", call.function_id, failure.message)
        call.fail_with(failure)

    def _note(self, trouble: StateError | None) -> None:
        """Log when the store begins to refuse writes, and when it takes them again."""
        code = trouble.wire_code if trouble is not None else None
        if code == self._trouble:
            return
        self._trouble = code
        if trouble is not None:
            log.error("%s: %s", code, trouble.message)
        else:
            log.info("writes are taken again")

    def _read(self, call: Call, answer: Answer, outcome: Outcome) -> None:
        """Answer a long list once it has been read, off the event loop."""
        task = asyncio.ensure_future(self._finish_reading(call, answer, outcome))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)
        if call.caller is not None:
            in_flight = call.caller.in_flight
            in_flight.add(in_flight.reading_weight)
            task.add_done_callback(lambda _: in_flight.remove(in_flight.reading_weight))

    async def _finish_reading(self, call: Call, answer: Answer, outcome: Outcome) -> None:
        try:
            # A commit that fails meanwhile begins another reading.
            while (reading := outcome.reading) is not None:
                await reading
                if outcome.reading is reading:
                    outcome.reading = None
        except OSError as error:
            log.error("reading a list failed: %s", error)
            call.fail(Failure("STORAGE_ERROR", f"The list cannot be read: {error}"))
            return
        except Exception:
            self._fail_to_answer(call)
            return
        if not outcome.settled:
            self._wait(call, answer, outcome)
        elif outcome.failure is not None:
            self._fail(call, outcome.failure)
        else:
            try:
                answer(call, outcome)
            except StateError as error:
                call.fail_with(error)
            except Exception:
                self._fail_to_answer(call)


def _require_read(command: Command) -> None:
    """Refuse a write before it is carried out.

    Raises:
        StoreReadOnly: it is one.
    """
    if isinstance(command, (*WRITES, Transact)):
        raise _refusal()


def _refusal() -> StoreReadOnly:
    return StoreReadOnly("Writes are refused since the server failed; restart it")
