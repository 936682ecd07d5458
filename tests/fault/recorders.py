"""Clients that ask at random, and a record of what each was answered, and when."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from itertools import count

from linearizability import Interval
from registers import Call, Called, CompareAndSet, Delete, Get, Increment, Json, Set, Value
from witnesses import CUT_OFF, line

LONG_TEXT = 3_000
HANG_UP = 0.02
"""Of the calls; then the client does not wait for the answer, and connects anew."""


class Record:
    """The calls of all clients to the keys of one scope, in the order of one clock."""

    def __init__(self) -> None:
        self.calls: defaultdict[str, list[Interval[Called]]] = defaultdict(list)
        self._moments = count(1)
        self._open: dict[int, tuple[str, Call]] = {}
        self._left = 0
        self._enough = asyncio.Event()

    def begin(self, key: str, call: Call) -> int:
        """Note, before it is sent, that a call is made. Returns the moment, which names it."""
        begun = next(self._moments)
        self._open[begun] = key, call
        return begun

    def end(self, begun: int, answer: Json) -> None:
        """Note that a call was answered."""
        key, call = self._open.pop(begun)
        self.calls[key].append(Interval(Called(call, answer), begun, next(self._moments)))
        self._left -= 1
        if self._left <= 0:
            self._enough.set()

    def server_gone(self) -> None:
        """Note that nobody will carry out what is not answered yet, if that has not been done."""
        ended = next(self._moments)
        for begun, (key, call) in self._open.items():
            if not isinstance(call, Get):
                what = Called(call, None)
                self.calls[key].append(Interval(what, begun, ended, is_certain=False))
        self._open.clear()

    async def answered(self, number: int) -> None:
        """Wait for so many answers from now on."""
        self._left = number
        self._enough.clear()
        await self._enough.wait()


class Asker:
    """A client with one call at a time, of a kind and with values that are chosen at random."""

    def __init__(self, record: Record, scope: str, keys: list[str], rng: random.Random) -> None:
        self._record = record
        self._scope = scope
        self._keys = keys
        self._rng = rng
        self._revisions: dict[str, int] = {}
        self._values: dict[str, Value] = {}

    async def work(self, url: str, serials: count[int]) -> None:
        """Call without end, until the server is gone."""
        with suppress(*CUT_OFF):
            while True:
                await self._work_until_hanging_up(url, serials)

    async def _work_until_hanging_up(self, url: str, serials: count[int]) -> None:
        async with line(url) as opened:
            hangs_up = False
            while not hangs_up:
                hangs_up = self._rng.random() < HANG_UP
                key = self._rng.choice(self._keys)
                call = self._any_call(key, next(serials))
                data = {"scope": self._scope, "key": key, **call.data()}
                begun = self._record.begin(key, call)
                answers: list[Json] = []
                await opened.send(call.function_id, data, answers.append)
                if hangs_up:
                    opened.socket.transport.abort()
                    return
                while not answers:
                    await opened.receive()
                [answer] = answers
                assert "error" not in answer, answer
                self._record.end(begun, answer)
                self._remember(key, Called(call, answer))

    def _any_call(self, key: str, serial: int) -> Call:
        rng = self._rng
        with_revision = rng.random() < 0.5
        make: Callable[[], Call] = rng.choice(
            (
                lambda: Get(with_revision),
                lambda: Get(with_revision),
                lambda: Set(self._value(serial), with_revision),
                lambda: Increment(rng.choice((1, 10, 100)), with_revision),
                lambda: Increment(rng.choice((1, 10, 100)), with_revision),
                lambda: CompareAndSet(self._value(serial), expected=self._values.get(key)),
                lambda: CompareAndSet(self._value(serial), if_revision=self._revisions.get(key, 0)),
                lambda: Delete(with_revision) if rng.random() < 0.3 else Get(with_revision),
            )
        )
        return make()

    def _value(self, serial: int) -> Value:
        """A value that nobody else writes; or null. Most can be counted on."""
        kind = self._rng.random()
        if kind < 0.05:
            return None
        if kind < 0.25:
            return f"{serial} " + "x" * self._rng.randrange(LONG_TEXT)
        return serial * 1_000_000

    def _remember(self, key: str, called: Called) -> None:
        """Keep what was told of a key, for conditions that may well hold."""
        revision, answer = called.revision, called.answer
        if revision is not None:
            self._revisions[key] = revision
        assert answer is not None
        result = answer.get("result")
        if isinstance(called.call, Get) and not called.call.with_revision:
            self._values[key] = result
        elif isinstance(result, dict):
            for member in ("new_value", "current", "value"):
                if member in result:
                    self._values[key] = result[member]
