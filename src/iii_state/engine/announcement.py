"""Who a worker says it is: the function `engine::workers::register`.

Source: docs/protocol.md, the metadata call.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from itertools import islice
from typing import Any

import msgspec

from iii_state.core.changes import Origin
from iii_state.engine.calls import Call
from iii_state.engine.functions import DEFAULT_NAMESPACE, Builtin
from iii_state.engine.inprocess import engine_function
from iii_state.engine.workers import MESSAGE_BYTES_SAFE, Worker
from iii_state.errors import InvalidRequest, LimitExceeded

NAME_CHARACTERS_MAX = 280

_LARGE = 64 << 20
_NODE = 100 << 20
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Announcement(msgspec.Struct):
    """What a worker tells of itself; it may leave out anything."""

    runtime: str | None = None
    version: str | None = None
    name: str | None = None
    description: str | None = None
    os: str | None = None
    pid: int | None = None
    isolation: str | None = None
    namespace: str | None = None
    features: list[str] | None = None


class Announcements:
    """Takes what workers tell of themselves.

    `settle` files the worker under its namespace, for good; `announced` is called last.
    """

    def __init__(
        self,
        settle: Callable[[Worker, str], None],
        announced: Callable[[Worker], None],
    ) -> None:
        self._settle = settle
        self._announced = announced

    def functions(self) -> list[Builtin[Any]]:
        """The one function."""
        return [
            engine_function(
                "workers::register",
                "Tell the name, the namespace and the client of a worker",
                Announcement,
                self._register,
            )
        ]

    def _register(self, call: Call, announcement: Announcement) -> None:
        worker = call.caller
        if worker is None:
            raise InvalidRequest("Only a worker can announce itself")
        namespace = announcement.namespace
        if namespace is not None and not namespace.strip():
            raise InvalidRequest(
                "The namespace of a worker cannot be blank; leave it out for the default",
                code="INVALID_NAMESPACE",
            )
        if namespace is not None and len(namespace) > NAME_CHARACTERS_MAX:
            raise LimitExceeded(
                f"The namespace has more than {NAME_CHARACTERS_MAX} characters",
                limit="namespace_characters_max",
                actual=len(namespace),
                bound=NAME_CHARACTERS_MAX,
            )
        worker.name = _clean(announcement.name)
        worker.description = _clean(announcement.description)
        worker.runtime = _clean(announcement.runtime) or "unknown"
        worker.version = _clean(announcement.version)
        worker.os = _clean(announcement.os)
        worker.pid = announcement.pid
        worker.isolation = _clean(announcement.isolation)
        worker.origin = Origin(worker.name or worker.id)
        worker.message_bytes_max = message_bytes_max(announcement)
        self._settle(worker, namespace or DEFAULT_NAMESPACE)
        call.answer(b'{"success":true}')
        self._announced(worker)


def message_bytes_max(announcement: Announcement) -> int:
    """The largest message that a client can receive.

    Source: docs/protocol.md, sizes.
    """
    runtime = announcement.runtime
    if runtime == "node":
        return _NODE
    if runtime == "browser" or "large-messages.v1" in (announcement.features or ()):
        return _LARGE
    found = re.match(r"(\d{1,6})\.(\d{1,6})", announcement.version or "")
    is_large = found is not None and (int(found[1]), int(found[2])) >= (0, 24)
    return _LARGE if runtime == "python" and is_large else MESSAGE_BYTES_SAFE


def _clean(text: str | None) -> str | None:
    """Without what would confuse a terminal, and not too long."""
    if text is None:
        return None
    kept = (c for c in text if unicodedata.category(c) != "Cc" and c not in _BIDI)
    return "".join(islice(kept, NAME_CHARACTERS_MAX))
