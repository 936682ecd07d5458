"""One question to the server, from a command that is not itself asynchronous."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import NoReturn

from iii_state.cli.arguments import Target
from iii_state.cli.exits import report
from iii_state.cli.output import Format
from iii_state.errors import StateError


def ask(
    target: Target,
    function_id: str,
    data: object,
    output: Format | None,
    *,
    missing: str = "",
    missing_code: str = "NOT_FOUND",
) -> bytes | None:
    """Call a function and give its result's JSON text, None when there is none.

    A failure is told on standard error and ends the program; `missing` is its hint when what is
    asked about is not there, which the server says with `missing_code`.
    """
    try:
        return asyncio.run(_ask(target, function_id, data))
    except StateError as error:
        if missing and error.wire_code == missing_code:
            error.details["hint"] = missing
        leave(error, output)


def leave(error: StateError, output: Format | None) -> NoReturn:
    """Tell a failure in the format of the output, and end the program."""
    sys.exit(report(error, as_json=output in ("json", "ndjson")))


def worker_name() -> str:
    """The name under which a command appears among the workers."""
    return f"iii-state-cli:{os.getpid()}"


async def _ask(target: Target, function_id: str, data: object) -> bytes | None:
    from iii_state.client import connect

    client = await connect(
        target.url, token=target.token, name=worker_name(), timeout_s=target.timeout_s
    )
    async with client:
        return await client.call(function_id, data, timeout_s=target.timeout_s)
