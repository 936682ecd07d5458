"""The twin of an open store for programs without an event loop: the same methods, which block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from iii_state.core.store import StoreInfo
from iii_state.embedded.events import Event, Json
from iii_state.embedded.functions import Functions
from iii_state.embedded.loop_thread import LoopThread
from iii_state.embedded.reactions import Reaction
from iii_state.embedded.state import State
from iii_state.embedded.transaction import Draft
from iii_state.embedded.watch import Watch
from iii_state.errors import Stopped

P = ParamSpec("P")
T = TypeVar("T")


class SyncIterator(Iterator[T], Generic[T]):
    """An asynchronous iterator, as one that blocks."""

    def __init__(self, there: LoopThread, items: AsyncIterator[T]) -> None:
        self._there = there
        self._items = items

    def __next__(self) -> T:
        async def take() -> tuple[T, ...]:
            try:
                return (await anext(self._items),)
            except StopAsyncIteration:
                return ()

        for item in self._there.wait(take()):
            return item
        raise StopIteration


class SyncWatch(SyncIterator[Event]):
    """The twin of `Watch`; `close` may be called from another thread."""

    def __init__(self, there: LoopThread, watch: Watch) -> None:
        super().__init__(there, watch)
        self._watch = watch

    def __next__(self) -> Event:
        try:
            return super().__next__()
        except Stopped:
            raise StopIteration from None

    @property
    def revision(self) -> int:
        """See `Watch.revision`."""
        return self._watch.revision

    def close(self) -> None:
        """See `Watch.close`."""
        self._there.call(self._watch.close)


class SyncTransaction(Draft):
    """The twin of `Transaction`: committed when its block ends, unless that raises."""

    def __init__(
        self,
        there: LoopThread,
        functions: Functions,
        idempotency_key: str | None,
        deadline_ms: int | None,
    ) -> None:
        super().__init__(functions, idempotency_key, deadline_ms)
        self._there = there

    def get(self, scope: str, key: str, default: Json = None) -> Json:
        """See `Transaction.get`."""
        return self._there.wait(self._read(scope, key, default))

    def __enter__(self) -> SyncTransaction:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over = True
        if kind is None:
            self._there.wait(self._commit())


def _blocking(
    method: Callable[Concatenate[State, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncState, P], T]:
    """A method that waits for another one."""

    @wraps(method)
    def call(self: SyncState, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._there.wait(method(self._state, *args, **kwargs))

    return call


def _iterating(
    method: Callable[Concatenate[State, P], AsyncIterator[T]],
) -> Callable[Concatenate[SyncState, P], SyncIterator[T]]:
    """A method whose iterator waits for that of another one."""

    @wraps(method)
    def call(self: SyncState, /, *args: P.args, **kwargs: P.kwargs) -> SyncIterator[T]:
        return SyncIterator(self._there, method(self._state, *args, **kwargs))

    return call


def _watching(
    method: Callable[Concatenate[State, P], Watch],
) -> Callable[Concatenate[SyncState, P], SyncWatch]:
    """A method whose watch waits for that of another one."""

    @wraps(method)
    def call(self: SyncState, /, *args: P.args, **kwargs: P.kwargs) -> SyncWatch:
        watch = self._there.call(partial(method, self._state, *args, **kwargs))
        return SyncWatch(self._there, watch)

    return call


def _binding(
    method: Callable[Concatenate[State, P], Callable[[Reaction], Reaction]],
) -> Callable[Concatenate[SyncState, P], Callable[[Reaction], Reaction]]:
    """A method whose decorator binds in the loop's thread."""

    @wraps(method)
    def call(
        self: SyncState, /, *args: P.args, **kwargs: P.kwargs
    ) -> Callable[[Reaction], Reaction]:
        bind = method(self._state, *args, **kwargs)
        return lambda reaction: self._there.call(partial(bind, reaction))

    return call


class SyncState:
    """The twin of `State` for programs without an event loop. Made by `open_sync`.

    Its methods are those of `State`; they block until done and may be called from any thread.
    Reactions run in a thread of their own; these methods refuse to be called from them, since they
    would wait for themselves.
    """

    def __init__(self, state: State, there: LoopThread) -> None:
        self._state = state
        self._there = there

    get = _blocking(State.get)
    get_many = _blocking(State.get_many)
    get_entry = _blocking(State.get_entry)
    set = _blocking(State.set)
    delete = _blocking(State.delete)
    update = _blocking(State.update)
    compare_and_set = _blocking(State.compare_and_set)
    create = _blocking(State.create)
    touch = _blocking(State.touch)
    list = _blocking(State.list)
    list_keys = _blocking(State.list_keys)
    list_groups = _blocking(State.list_groups)
    entries = _iterating(State.entries)
    count = _blocking(State.count)
    clear = _blocking(State.clear)
    delete_prefix = _blocking(State.delete_prefix)
    history = _iterating(State.history)
    watch = _watching(State.watch)
    on = _binding(State.on)
    triggers = _blocking(State.triggers)
    pause = _blocking(State.pause)
    resume = _blocking(State.resume)
    delete_trigger = _blocking(State.delete_trigger)
    dead_letters = _iterating(State.dead_letters)
    redrive = _blocking(State.redrive)
    discard = _blocking(State.discard)

    def transaction(
        self, *, idempotency_key: str | None = None, deadline_ms: int | None = None
    ) -> SyncTransaction:
        """See `State.transaction`."""
        functions = self._state._functions
        return SyncTransaction(self._there, functions, idempotency_key, deadline_ms)

    def info(self) -> StoreInfo:
        """See `State.info`."""
        return self._there.call(self._state.info)
