"""What a key of the store does when it is asked for one thing after the other.

The calls are those of docs/functions.md, with values that are numbers, texts or null. Each says in
which states it may leave a key, if that gave the answer that came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, NamedTuple, Protocol

from linearizability import Interval

Json = dict[str, Any]


class Absent(Enum):
    """What a key holds that is not there."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
Value = int | str | None | Absent


class Held(NamedTuple):
    """A key: its value, the revision that wrote it, and what is known of its latest change.

    `revision` is 0 when it is absent, None when it was not told to anybody yet. The latest change
    has the revision `least`, or a later one.
    """

    value: Value
    revision: int | None
    least: int

    def told(self, revision: int) -> Iterator[Held]:
        """The same, if it can be this revision that wrote it."""
        if self.revision == revision:
            yield self
        elif self.revision is None and revision >= self.least:
            yield Held(self.value, revision, revision)

    def changed(self, value: Value, revision: int | None) -> Iterator[Held]:
        """It holds another value since a change, if that can have had this revision."""
        least = self.least + 1 if revision is None else revision
        if least > self.least:
            yield Held(value, 0 if value is ABSENT else revision, least)

    def __repr__(self) -> str:
        return f"{_short(self.value)} of revision {self.revision}, at least {self.least}"


NEVER_WRITTEN = Held(ABSENT, 0, 0)


class Call(Protocol):
    """What a client asks of a key."""

    @property
    def function_id(self) -> str:
        """The function that it calls."""

    def data(self) -> Json:
        """The members of its request beside scope and key."""

    def steps(self, held: Held, answer: Json | None) -> Iterator[Held]:
        """What the key may hold after it, if it gave this answer; None: any, or none."""


class Called(NamedTuple):
    """A call with its whole answer; None when none came."""

    call: Call
    answer: Json | None

    @property
    def revision(self) -> int | None:
        """The revision that its answer tells, if it does."""
        return self._members().get("revision")

    @property
    def is_change(self) -> bool:
        """Whether that is the revision of its own change."""
        return not isinstance(self.call, Get) and self._members().get("swapped") is not False

    def _members(self) -> Json:
        result = (self.answer or {}).get("result")
        return result if isinstance(result, dict) else {}

    def __repr__(self) -> str:
        answer = "no answer" if self.answer is None else _short(self.answer.get("result", ABSENT))
        return f"{self.call}: {answer}"


def steps(held: Held, called: Called) -> Iterator[Held]:
    """The states in which a call may leave a key that it finds in one state."""
    return called.call.steps(held, called.answer)


@dataclass(frozen=True)
class Get:
    with_revision: bool = False
    function_id: ClassVar[str] = "state::get"

    def data(self) -> Json:
        return {"with_revision": self.with_revision}

    def steps(self, held: Held, answer: Json | None) -> Iterator[Held]:
        if answer is None:
            yield held
        elif not self.with_revision:
            if answer.get("result", ABSENT) == held.value:
                yield held
        elif answer["result"].get("value", ABSENT) == held.value:
            yield from held.told(answer["result"]["revision"])


@dataclass(frozen=True)
class Set:
    value: Value
    with_revision: bool = False
    function_id: ClassVar[str] = "state::set"

    def data(self) -> Json:
        return {"value": self.value, "with_revision": self.with_revision}

    def steps(self, held: Held, answer: Json | None) -> Iterator[Held]:
        if answer is None or _tells(answer, held.value, self.value):
            yield from held.changed(self.value, _revision(answer))

    def __repr__(self) -> str:
        return f"Set({_short(self.value)})"


@dataclass(frozen=True)
class Delete:
    with_revision: bool = False
    function_id: ClassVar[str] = "state::delete"

    def data(self) -> Json:
        return {"with_revision": self.with_revision}

    def steps(self, held: Held, answer: Json | None) -> Iterator[Held]:
        if answer is None:
            yield from held.changed(ABSENT, None)
        elif not self.with_revision:
            if answer.get("result", ABSENT) == held.value:
                yield from held.changed(ABSENT, None)
        elif answer["result"].get("old_value", ABSENT) == held.value:
            yield from held.changed(ABSENT, _revision(answer))


@dataclass(frozen=True)
class Increment:
    """An update. What is no number stays as it is, which is a change too."""

    by: int
    with_revision: bool = False
    function_id: ClassVar[str] = "state::update"

    def data(self) -> Json:
        ops = [{"type": "increment", "path": "", "by": self.by}]
        return {"ops": ops, "with_revision": self.with_revision}

    def steps(self, held: Held, answer: Json | None) -> Iterator[Held]:
        value, fails = held.value, False
        if isinstance(value, int):
            value += self.by
        elif value is ABSENT:
            value = self.by
        else:
            fails = True
        if answer is None or (
            _tells(answer, held.value, value) and ("errors" in answer["result"]) == fails
        ):
            yield from held.changed(value, _revision(answer))


@dataclass(frozen=True)
class CompareAndSet:
    """On condition of a value, for which absent and null are the same; or of a revision."""

    value: Value
    expected: Value = None
    if_revision: int | None = None
    function_id: ClassVar[str] = "state::compare-and-set"

    def data(self) -> Json:
        if self.if_revision is not None:
            return {"if_revision": self.if_revision, "value": self.value}
        return {"expected": self.expected, "value": self.value}

    def steps(self, held: Held, answer: Json | None) -> Iterator[Held]:
        result = None if answer is None else answer["result"]
        if result is None or result["swapped"]:
            for found in self._met(held):
                yield from found.changed(self.value, _revision(answer))
        if result is None:
            yield held
        elif not result["swapped"] and result["current"] == _json(held.value):
            for found in held.told(result["revision"]):
                if not any(self._met(found)):
                    yield found

    def _met(self, held: Held) -> Iterator[Held]:
        """The same, if the condition can hold."""
        if self.if_revision is not None:
            yield from held.told(self.if_revision)
        elif _json(held.value) == self.expected:
            yield held

    def __repr__(self) -> str:
        condition = self.if_revision if self.if_revision is not None else _short(self.expected)
        return f"CompareAndSet({condition} -> {_short(self.value)})"


def check_revisions(history: Sequence[Interval[Called]]) -> None:
    """A change has a revision above all that were told before it was asked for, on any key.

    Raises:
        AssertionError: one has not.
    """
    ends = sorted((each for each in history if each.is_certain), key=lambda each: each.ended)
    told, at = 0, 0
    for each in sorted(history, key=lambda each: each.begun):
        while at < len(ends) and ends[at].ended < each.begun:
            told = max(told, ends[at].what.revision or 0)
            at += 1
        revision = each.what.revision
        if revision is not None and each.what.is_change:
            assert revision > told, f"{each.what}, after revision {told} was told of"
    revisions = [each.what.revision for each in history if each.what.is_change]
    changes = [revision for revision in revisions if revision is not None]
    assert len(changes) == len(set(changes)), "two changes have the same revision"


def _tells(answer: Json, old: Value, new: Value) -> bool:
    result = answer["result"]
    return bool(result["old_value"] == _json(old) and result["new_value"] == _json(new))


def _revision(answer: Json | None) -> int | None:
    return None if answer is None else answer["result"].get("revision")


def _json(value: Value) -> Value:
    return None if value is ABSENT else value


def _short(value: Any) -> str:
    return f"{value!r:.60}" if value is not ABSENT else "absent"
