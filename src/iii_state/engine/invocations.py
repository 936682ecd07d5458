"""One function calling another: what a result is, and who can be asked to make a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why a call failed, as it travels on the wire."""

    code: str
    message: str
    stacktrace: str | None = None


Reply = Callable[[bytes | None, Failure | None], None]
"""Called exactly once with the result's JSON text (None: no result) or the failure."""


Forget = Callable[[], None]
"""Drops a call: whoever runs it may run on, but its answer is not waited for."""


class Invoker(Protocol):
    """Makes calls that start inside the engine (fires, conditions). Never waits."""

    def invoke(
        self,
        namespace: str,
        function_id: str,
        data: bytes,
        reply: Reply,
        *,
        metadata: bytes | None = None,
        depth: int = 0,
        is_shared: bool = False,
    ) -> Forget | None:
        """Call a function, wherever it is registered; `data` and `metadata` are JSON texts.

        What the function writes stands at `depth` in a chain of writes, as far as its SDK carries
        the call's trace on. Returns what drops the call; None when nobody runs it any more.
        With `is_shared` any worker that offers the function may run it, not its owner alone.
        `reply` may be called before this returns (an unknown function fails at once with code
        `function_not_found`); if the worker that runs it goes away, with `invocation_stopped`.
        """
