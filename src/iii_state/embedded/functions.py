"""Calls of the engine's own functions from within the process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TypeVar

import msgspec

from iii_state.core.changes import Origin
from iii_state.embedded.events import Json
from iii_state.engine.calls import Call, joined
from iii_state.engine.engine import Engine
from iii_state.engine.invocations import Failure
from iii_state.errors import InvalidRequest, Refused, StateError, Stopped

T = TypeVar("T")

OWNER = "embedded"

ORIGIN: ContextVar[Origin] = ContextVar("origin")
"""Within a reaction: who calls, and how deep it stands in a chain of writes."""

_PROGRAM = Origin(OWNER)


class LocalCall(Call):
    """A call whose caller waits in this process."""

    done: asyncio.Future[bytes | None] = None  # type: ignore[assignment]  # always given

    def answer(self, result: bytes | None, before: bytes = b"", after: bytes = b"") -> None:
        """See `Call.answer`."""
        if not self.done.done():
            self.done.set_result(joined(result, before, after))

    def fail(self, failure: Failure, details: dict[str, object] | None = None) -> None:
        """See `Call.fail`."""
        error = StateError(failure.message, code=failure.code)
        error.details.update(details or {})
        self.fail_with(error)

    def fail_with(self, error: StateError) -> None:
        """See `Call.fail_with`. The caller gets the error itself."""
        if not self.done.done():
            self.done.set_exception(error)


class Functions:
    """The functions of an engine, until `close`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_open = True
        self._is_leaving = False
        self._loop = asyncio.get_running_loop()

    @property
    def is_open(self) -> bool:
        """Whether calls are taken from whoever asks."""
        return self._is_open and not (self._is_leaving and ORIGIN.get(_PROGRAM) is _PROGRAM)

    def leave(self) -> None:
        """Refuse calls from now on, but for those of reactions, which are still to end."""
        self._is_leaving = True

    def close(self) -> None:
        """Refuse calls from now on; those under way are still answered."""
        self._is_open = False

    def begin(self, function_id: str, data: bytes) -> asyncio.Future[bytes | None]:
        """Call a function with JSON text; what is awaited is the JSON text of its result.

        Calls are carried out in the order in which they begin.

        Raises:
            Stopped: the store is closed, or about to be. Errors of the function come when the
                result is awaited.
            Refused: this is not the event loop in which the store was opened.
        """
        if not self.is_open:
            raise Stopped("The store is closed, nothing changed; open it again")
        if asyncio.get_running_loop() is not self._loop:
            raise Refused(
                "The store was opened in another event loop, nothing changed; call it there, or "
                "use `open_sync`, whose store any thread may call"
            )
        function = self._engine.functions.builtins[function_id]
        done: asyncio.Future[bytes | None] = self._loop.create_future()
        origin = ORIGIN.get(_PROGRAM)
        function.run(LocalCall(function.member, data, function_id, None, origin, done=done))
        return done

    async def value(self, function_id: str, request: Mapping[str, Json]) -> Json:
        """Call a function whose result is a value; None if there is none."""
        result = await self.begin(function_id, encode(request))
        return None if result is None else decode(result)

    async def ask(self, function_id: str, request: Mapping[str, Json], answer: type[T]) -> T:
        """Call a function whose result has a shape."""
        return msgspec.convert(await self.value(function_id, request), answer)


def encode(value: Json) -> bytes:
    """A value as JSON text.

    Raises:
        InvalidRequest: it is no JSON. The standard library's encoder refuses NaN, sets and others.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"The value is no JSON, nothing changed: {error}") from error


def decode(text: bytes) -> Json:
    """The value of a JSON text. The standard library's decoder takes all numbers there are."""
    return json.loads(text)


def given(**members: Json) -> dict[str, Json]:
    """The members that are not None."""
    return {name: value for name, value in members.items() if value is not None}
