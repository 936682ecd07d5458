"""Several writes as one: all of them, on conditions, or none."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import msgspec

from iii_state.core.names import quoted
from iii_state.embedded.events import Json
from iii_state.embedded.functions import Functions, decode, encode, given
from iii_state.embedded.results import OperationError, TransactResult, UpdateResult
from iii_state.errors import Conflict, InvalidRequest

NOT_GIVEN: Any = object()
"""Where None is a value."""


class _Write(msgspec.Struct):
    old_value: Json
    new_value: Json
    errors: tuple[OperationError, ...] = ()


class _Failed(msgspec.Struct):
    guard_index: int
    current: Json
    revision: int


class _Answer(msgspec.Struct):
    committed: bool
    first_revision: int = 0
    last_revision: int = 0
    results: tuple[_Write, ...] = ()
    failed: tuple[_Failed, ...] = ()


class Draft:
    """Guards and writes that are gathered. Nothing happens before the block ends.

    `result` tells what the writes did, once they are committed. Values are taken as they are at the
    call; what is done to them later does not count.
    """

    def __init__(
        self, functions: Functions, idempotency_key: str | None, deadline_ms: int | None
    ) -> None:
        self.result: TransactResult | None = None
        self._functions = functions
        self._options = given(idempotency_key=idempotency_key, deadline_ms=deadline_ms)
        self._guards: list[bytes] = []
        self._guarded: list[tuple[str, str]] = []
        self._writes: list[bytes] = []
        self._is_over = False

    @property
    def committed(self) -> bool:
        """Whether the writes are carried out."""
        return self.result is not None

    def require(
        self,
        scope: str,
        key: str,
        *,
        revision: int | None = None,
        value: Json = NOT_GIVEN,
        absent: bool = False,
    ) -> None:
        """Commit only if a key is at a revision (0: absent), holds a value, or is absent.

        Raises:
            InvalidRequest: not just one of the three is given.
        """
        if (revision is not None) + (value is not NOT_GIVEN) + absent != 1:
            raise InvalidRequest("require needs one of `revision`, `value` and `absent=True`")
        guard: dict[str, Json] = {"scope": scope, "key": key}
        if revision is not None:
            guard["revision"] = revision
        elif absent:
            guard["absent"] = True
        else:
            guard["value"] = value
        self._add(self._guards, guard)
        self._guarded.append((scope, key))

    def set(self, scope: str, key: str, value: Json, *, ttl_ms: int | None = None) -> None:
        """Write a key, which expires after `ttl_ms`, or never."""
        write = {"op": "set", "scope": scope, "key": key, "value": value}
        self._add(self._writes, write if ttl_ms is None else {**write, "ttl_ms": ttl_ms})

    def update(
        self, scope: str, key: str, *operations: Mapping[str, Json], strict: bool = False
    ) -> None:
        """Apply operations to a key. One that fails in a strict update fails the transaction."""
        write = {"op": "update", "scope": scope, "key": key, "ops": operations, "strict": strict}
        self._add(self._writes, write)

    def delete(self, scope: str, key: str) -> None:
        """Remove a key."""
        self._add(self._writes, {"op": "delete", "scope": scope, "key": key})

    def _add(self, texts: list[bytes], request: Mapping[str, Json]) -> None:
        if self._is_over:
            raise InvalidRequest("This transaction has ended; begin another one")
        texts.append(encode(request))

    async def _read(self, scope: str, key: str, default: Json) -> Json:
        request = {"scope": scope, "key": key, "with_revision": True}
        entry = await self._functions.value("state::get", request)
        self.require(scope, key, revision=entry["revision"])
        return entry.get("value", default)

    async def _commit(self) -> None:
        self._is_over = True
        if not self._writes and not self._guards:
            return
        members = [b'"%b":%b' % (n.encode(), encode(v)) for n, v in self._options.items()]
        members.append(b'"guards":[%b]' % b",".join(self._guards))
        members.append(b'"writes":[%b]' % b",".join(self._writes))
        text = await self._functions.begin("state::transact", b"{%b}" % b",".join(members))
        assert text is not None
        answer = msgspec.convert(decode(text), _Answer)
        if not answer.committed:
            raise self._conflict(answer.failed)
        first = answer.first_revision
        self.result = TransactResult(
            first,
            answer.last_revision,
            tuple(
                UpdateResult(write.old_value, write.new_value, revision, write.errors)
                for revision, write in enumerate(answer.results, first)
            ),
        )

    def _conflict(self, failed: tuple[_Failed, ...]) -> Conflict:
        places = [self._guarded[each.guard_index] for each in failed]
        scope, key = places[0]
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return Conflict(
            f"Key {quoted(key)} of scope {quoted(scope)}{more} is not what the transaction "
            f"requires; nothing changed. Read again and decide anew",
            revision=failed[0].revision,
            failed=[
                {"scope": scope, "key": key, **msgspec.structs.asdict(each)}
                for (scope, key), each in zip(places, failed, strict=True)
            ],
        )


class Transaction(Draft):
    """A transaction that is committed when its block ends, unless that raises.

    Leaving the block raises `Conflict` when something required does not hold; its details have
    `failed`, a list with the scope, key, current value and revision of each. Nothing is written
    then, nor when the block raises.
    """

    async def get(self, scope: str, key: str, default: Json = None) -> Json:
        """Read a key, and require that it stays as it is until the commit."""
        return await self._read(scope, key, default)

    async def __aenter__(self) -> Transaction:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over = True
        if kind is None:
            await self._commit()
