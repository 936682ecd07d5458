"""What workers may log here, and the baggage of a call: `engine::log::*`, `engine::baggage::*`.

Source: docs/protocol.md, logging and baggage functions.
"""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import unquote

import msgspec

from iii_state.engine.calls import Call, WorkerCall
from iii_state.engine.functions import Builtin
from iii_state.engine.inprocess import engine_function

log = logging.getLogger("iii_state.workers")

_LEVELS = {
    "trace": 5,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


class LogLine(msgspec.Struct):
    """Something that a worker wants to be seen."""

    message: str
    data: Any = None
    trace_id: str | None = None
    span_id: str | None = None
    service_name: str | None = None


class BaggageKey(msgspec.Struct):
    """One item of the baggage."""

    key: str


class BaggageItem(msgspec.Struct):
    """An item for the baggage."""

    key: str
    value: str


class AllBaggage(msgspec.Struct):
    """All items of the baggage."""


class Diagnostics:
    """Makes the functions; none of them keeps anything."""

    def functions(self) -> list[Builtin[Any]]:
        """The rows."""
        return [
            *(_log_row(name, level) for name, level in _LEVELS.items()),
            engine_function(
                "baggage::get", "Tell an item of this call's baggage", BaggageKey, _get
            ),
            engine_function("baggage::set", "Accepted, without effect", BaggageItem, _set),
            engine_function("baggage::get_all", "Tell this call's baggage", AllBaggage, _get_all),
        ]


def _log_row(name: str, level: int) -> Builtin[LogLine]:
    def handler(call: Call, line: LogLine) -> None:
        caller = call.caller
        members = {
            "worker": caller.label if caller is not None else None,
            "service": line.service_name,
            "trace_id": line.trace_id,
            "span_id": line.span_id,
            "data": line.data,
        }
        extra = {name: value for name, value in members.items() if value is not None}
        log.log(level, "%s", line.message, extra=extra)
        call.answer(None)

    return engine_function(
        f"log::{name}", f"Write a line to this host's log ({name})", LogLine, handler
    )


def _get(call: Call, request: BaggageKey) -> None:
    call.answer(msgspec.json.encode({"value": _baggage_of(call).get(request.key)}))


def _set(call: Call, request: BaggageItem) -> None:
    note = "Baggage belongs to one call: nothing is kept, later calls do not carry this item"
    call.answer(msgspec.json.encode({"success": True, "note": note}))


def _get_all(call: Call, request: AllBaggage) -> None:
    call.answer(msgspec.json.encode({"baggage": _baggage_of(call)}))


def _baggage_of(call: Call) -> dict[str, str]:
    """The items of a call's baggage. Source: W3C Baggage, section 3."""
    text = (call.baggage or "") if isinstance(call, WorkerCall) else ""
    items = (item.partition(";")[0].partition("=") for item in text.split(","))
    return {key.strip(): unquote(value.strip()) for key, equals, value in items if equals}
