"""What all functions `state::*` have in common: whose they are, and how a row becomes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from iii_state.engine.calls import Call
from iii_state.engine.functions import Builtin
from iii_state.engine.state_schemas import FunctionSchema

OWNER = "iii-state"
"""The worker under which discovery lists the state functions."""

Request = TypeVar("Request")


def state_function(
    name: str,
    schema: FunctionSchema,
    request: type[Request],
    handler: Callable[[Call, Request], None],
) -> Builtin[Request]:
    """The function `state::` and `name`."""
    return Builtin(
        f"state::{name}",
        schema.description,
        request,
        handler,
        owner=OWNER,
        request_schema=schema.request,
        response_schema=schema.response,
    )
