"""State inside a Python program: the same functions, store and reactions, without a server.

    async with iii_state.open("./data") as state:
        @state.on(scope="orders")
        async def changed(event: iii_state.Event) -> None: ...

        await state.set("orders", "o-1", {"total": 12})

`open_sync` is the twin for programs without an event loop. Values are plain Python values; what
`json` can express, state can hold.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from iii_state.clock import wall_clock_ms
from iii_state.core.bindings import Binding, BindingConfig
from iii_state.core.changes import Origin
from iii_state.core.store import StoreInfo
from iii_state.engine.calls import Call
from iii_state.engine.engine import Engine, random_ids
from iii_state.engine.functions import DEFAULT_NAMESPACE, Builtin
from iii_state.engine.invocations import Failure
from iii_state.errors import ConfigurationError, InvalidRequest, StateError
from iii_state.settings import SETTINGS, Settings
from iii_state.stores.opening import open_store

log = logging.getLogger("iii_state.embedded")

Json = Any
"""None, bool, int, float, str, and lists and dicts of these."""

T = TypeVar("T")


class Event(msgspec.Struct, frozen=True):
    """A change, as a reaction gets it; the members are those of the event on the wire.

    `event_type` is `state:created`, `state:updated` or `state:deleted`. `event_id` is the same
    whenever the same change is delivered again.
    """

    event_type: str
    scope: str
    key: str
    old_value: Json
    new_value: Json
    event_id: str
    revision: int
    timestamp_ms: int
    attempt: int


class SetResult(msgspec.Struct, frozen=True):
    """What a key held before and holds now; an absent one held None."""

    old_value: Json
    new_value: Json


class OperationError(msgspec.Struct, frozen=True):
    """An operation of an update that failed: its place in the list, a code, a sentence."""

    op_index: int
    code: str
    message: str


class UpdateResult(msgspec.Struct, frozen=True):
    """What a key held before and holds now, and the operations that failed."""

    old_value: Json
    new_value: Json
    errors: tuple[OperationError, ...] = ()


Reaction = Callable[[Event], Awaitable[object] | object]
Condition = Callable[[Event], bool]


class _LocalCall(Call):
    """A call whose caller waits in this process."""

    done: asyncio.Future[bytes | None] = None  # type: ignore[assignment]  # always given

    def answer(self, result: bytes | None) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def fail(self, failure: Failure, details: dict[str, object] | None = None) -> None:
        self._raise(StateError(failure.message, code=failure.code))

    def fail_with(self, error: StateError) -> None:
        self._raise(error)

    def _raise(self, error: StateError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


_ORIGIN = Origin("embedded")


class State:
    """An open store. Made by `open`; use it from the event loop that opened it."""

    def __init__(self, engine: Engine, new_id: Callable[[], str]) -> None:
        self._engine = engine
        self._new_id = new_id
        self._running: set[asyncio.Task[object]] = set()

    async def get(self, scope: str, key: str, default: Json = None) -> Json:
        """The value of a key; `default` when there is none. A stored null is None."""
        result = await self._call("state::get", {"scope": scope, "key": key})
        return default if result is None else json.loads(result)

    async def set(self, scope: str, key: str, value: Json) -> SetResult:
        """Write a key. On return the change is as durable as the store's mode says.

        Raises:
            LimitExceeded: the value is too large.
            StorageError: the store cannot take it; see the subclasses for what is known.
        """
        request = {"scope": scope, "key": key, "value": value}
        return SetResult(**await self._call_for_json("state::set", request))

    async def delete(self, scope: str, key: str) -> Json:
        """Remove a key; returns what it held, None when it held nothing."""
        result = await self._call("state::delete", {"scope": scope, "key": key})
        return None if result is None else json.loads(result)

    async def update(self, scope: str, key: str, *operations: Mapping[str, Json]) -> UpdateResult:
        """Apply operations such as `{"type": "increment", "path": "n", "by": 1}`, as one change.

        An operation that fails is reported in `errors`; the others apply.
        """
        request = {"scope": scope, "key": key, "ops": operations}
        result = await self._call_for_json("state::update", request)
        errors = msgspec.convert(result.get("errors", []), tuple[OperationError, ...])
        return UpdateResult(result["old_value"], result["new_value"], errors)

    async def list(self, scope: str) -> builtins.list[Json]:
        """The values of a scope, in order of creation."""
        values: builtins.list[Json] = await self._call_for_json("state::list", {"scope": scope})
        return values

    async def list_keys(self, scope: str) -> builtins.list[str]:
        """The keys of a scope, ascending by code point."""
        result = await self._call_for_json("state::list_keys", {"scope": scope})
        return list(result["keys"])

    async def list_groups(self) -> builtins.list[str]:
        """The scopes that hold a key, ascending by code point."""
        return list((await self._call_for_json("state::list_groups", {}))["groups"])

    def info(self) -> StoreInfo:
        """Durability, revision and size of the store."""
        return self._engine.store.info()

    def on(
        self,
        *,
        scope: str | None = None,
        key: str | None = None,
        condition: Condition | None = None,
    ) -> Callable[[Reaction], Reaction]:
        """Have a function called for every change from now on, of one scope, one key, or all.

        Events of one key come one after another, in order; those of different keys side by side.
        A reaction that raises is logged; the next event comes all the same. When `condition`
        returns False, the event is skipped.
        """

        def bind(reaction: Reaction) -> Reaction:
            name = f"embedded::{self._new_id()}"
            self._serve(name, reaction)
            condition_id = None
            if condition is not None:
                condition_id = f"{name}::condition"
                self._serve(condition_id, condition)
            config = BindingConfig(scope, key, condition_id)
            self._engine.reactions.bind(
                self,
                Binding(
                    name,
                    name,
                    DEFAULT_NAMESPACE,
                    config,
                    msgspec.json.encode(config),
                    None,
                    self._engine.store.executed_revision,
                ),
            )
            return reaction

        return bind

    async def _finish_reactions(self) -> None:
        """Let the reactions hear of every change up to now, and end."""
        await self._engine.commits.settled()
        reactions, revision = self._engine.reactions, self._engine.store.executed_revision
        while any(status.cursor < revision for status in reactions.snapshot()):
            if self._running:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)
        reactions.stop()
        while self._running:
            await asyncio.wait(self._running)

    def _serve(self, function_id: str, function: Callable[[Event], Any]) -> None:
        def handler(call: Call, event: Event) -> None:
            task = asyncio.ensure_future(self._react(call, function, event))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        self._engine.functions.add_builtin(
            Builtin(function_id, "A reaction of this program", Event, handler, owner="embedded")
        )

    async def _react(self, call: Call, function: Callable[[Event], Any], event: Event) -> None:
        try:
            result = function(event)
            if inspect.isawaitable(result):
                result = await result
        except Exception as error:  # whatever a reaction raises is its failure, not ours
            log.exception("a reaction failed on revision %d", event.revision)
            call.fail(Failure("invocation_failed", str(error)))
        else:
            call.answer(b"false" if result is False else b"null")

    async def _call(self, function_id: str, request: Mapping[str, Json]) -> bytes | None:
        try:
            # The standard library's encoder refuses NaN, sets and other things that are no JSON.
            data = json.dumps(request, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(f"The value is no JSON, nothing changed: {error}") from error
        function = self._engine.functions.builtins[function_id]
        done: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        function.run(_LocalCall(function.text, data, function_id, None, _ORIGIN, done=done))
        return await done

    async def _call_for_json(self, function_id: str, request: Mapping[str, Json]) -> Json:
        result = await self._call(function_id, request)
        assert result is not None
        # The standard library's decoder keeps integers of any size.
        return json.loads(result)


class SyncState:
    """The twin of `State` for programs without an event loop. Made by `open_sync`.

    Its methods block until done and may be called from any thread. Reactions run in a thread of
    their own; they must not call these methods, which would wait for themselves.
    """

    def __init__(self, state: State, loop: asyncio.AbstractEventLoop) -> None:
        self._state = state
        self._loop = loop

    def get(self, scope: str, key: str, default: Json = None) -> Json:
        """See `State.get`."""
        return self._wait(self._state.get(scope, key, default))

    def set(self, scope: str, key: str, value: Json) -> SetResult:
        """See `State.set`."""
        return self._wait(self._state.set(scope, key, value))

    def delete(self, scope: str, key: str) -> Json:
        """See `State.delete`."""
        return self._wait(self._state.delete(scope, key))

    def update(self, scope: str, key: str, *operations: Mapping[str, Json]) -> UpdateResult:
        """See `State.update`."""
        return self._wait(self._state.update(scope, key, *operations))

    def list(self, scope: str) -> builtins.list[Json]:
        """See `State.list`."""
        return self._wait(self._state.list(scope))

    def list_keys(self, scope: str) -> builtins.list[str]:
        """See `State.list_keys`."""
        return self._wait(self._state.list_keys(scope))

    def list_groups(self) -> builtins.list[str]:
        """See `State.list_groups`."""
        return self._wait(self._state.list_groups())

    def info(self) -> StoreInfo:
        """See `State.info`."""

        async def info() -> StoreInfo:
            return self._state.info()

        return self._wait(info())

    def on(
        self,
        *,
        scope: str | None = None,
        key: str | None = None,
        condition: Condition | None = None,
    ) -> Callable[[Reaction], Reaction]:
        """See `State.on`."""

        def bind(reaction: Reaction) -> Reaction:
            async def bind_there() -> Reaction:
                return self._state.on(scope=scope, key=key, condition=condition)(reaction)

            return self._wait(bind_there())

        return bind

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


@asynccontextmanager
async def open(directory: str | Path | None, **settings: Any) -> AsyncIterator[State]:
    """Open a store; it is closed when the context is left, after the reactions have ended.

    `directory` is made when it is missing; None keeps everything in memory only. `settings` are
    those of `docs/configuration.md` that belong to the store: `durability`, `cache_bytes`, ...

    Raises:
        StoreUnusable: see its subclasses; nothing was touched.
    """
    chosen = _settings(directory, settings)
    async with AsyncExitStack() as stack:
        store = await open_store(chosen, wall_clock_ms)
        stack.push_async_callback(store.close)
        new_id = random_ids()
        engine = Engine(store, chosen, wall_clock_ms, new_id)
        engine.start()
        stack.push_async_callback(engine.stop)
        state = State(engine, new_id)
        stack.push_async_callback(state._finish_reactions)
        yield state


@contextmanager
def open_sync(directory: str | Path | None, **settings: Any) -> Iterator[SyncState]:
    """The twin of `open` for programs without an event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="iii-state", daemon=True)
    thread.start()
    wait = partial(asyncio.run_coroutine_threadsafe, loop=loop)
    context = open(directory, **settings)
    try:
        state = wait(context.__aenter__()).result()
        try:
            yield SyncState(state, loop)
        finally:
            wait(context.__aexit__(None, None, None)).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _settings(directory: str | Path | None, given: Mapping[str, object]) -> Settings:
    rows = {row.name: row for row in SETTINGS}
    chosen = {}
    for name, value in given.items():
        if name not in rows:
            raise ConfigurationError(f"open() has no setting {name!r}; see docs/configuration.md")
        chosen[name] = rows[name].parse(value, "open()")
    if directory is None:
        return Settings(in_memory=True, **chosen)
    return Settings(data_dir=Path(directory), **chosen)
