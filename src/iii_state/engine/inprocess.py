"""The workers inside this process, under which discovery lists what the engine itself answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import msgspec

from iii_state.engine.calls import Call
from iii_state.engine.functions import Builtin

STATE = "iii-state"
ENGINE = "iii-engine-functions"

DESCRIPTIONS = {
    ENGINE: "Discovery, channels and diagnostics",
    STATE: "Durable, reactive key-value state",
}

Request = TypeVar("Request")


def engine_function(
    name: str, description: str, request: type[Request], handler: Callable[[Call, Request], None]
) -> Builtin[Request]:
    """The function `engine::<name>`, whose request's schema is that of the type."""
    return Builtin(
        f"engine::{name}",
        description,
        request,
        handler,
        owner=ENGINE,
        request_schema=msgspec.json.schema(request),
    )
