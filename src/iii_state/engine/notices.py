"""Trigger types by which the engine tells of itself: `engine::functions-available` and the like.

Source: docs/protocol.md, discovery trigger types.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec

from iii_state.engine import inprocess
from iii_state.engine.functions import FunctionTable
from iii_state.engine.invocations import Failure, Invoker
from iii_state.engine.timers import Timer, Timers
from iii_state.engine.triggers import Trigger, TriggerType
from iii_state.engine.workers import Worker

log = logging.getLogger("iii_state.triggers")

UNANSWERED_MAX = 1000
"""A trigger whose function has so many notices unanswered is told no more until it answers some."""

WorkerEvent = Literal["worker_connected", "worker_metadata_updated", "worker_disconnected"]


class Notices(TriggerType):
    """A type of the engine's own. The config of its triggers means nothing."""

    def __init__(self, type_id: str, description: str, invoker: Invoker) -> None:
        super().__init__(type_id, description, owner=inprocess.ENGINE)
        self._invoker = invoker
        self._unanswered: Counter[str] = Counter()

    def bind(self, trigger: Trigger) -> None:
        """See `TriggerType.bind`."""

    def unbind(self, trigger: Trigger) -> None:
        """See `TriggerType.unbind`."""

    def fire(self, payload: dict[str, object]) -> None:
        """Call every bound function, once."""
        if not self.triggers:
            return
        text = msgspec.json.encode(payload)
        for trigger in list(self.triggers.values()):
            if self._unanswered[trigger.id] >= UNANSWERED_MAX:
                continue
            self._unanswered[trigger.id] += 1
            self._invoker.invoke(
                trigger.target_namespace,
                trigger.function_id,
                text,
                partial(self._answered, trigger.id),
                metadata=trigger.metadata,
            )

    def _answered(self, trigger_id: str, result: bytes | None, failure: Failure | None) -> None:
        self._unanswered[trigger_id] -= 1
        if not self._unanswered[trigger_id]:
            del self._unanswered[trigger_id]
        if failure is not None:
            log.warning("a notice of %s failed: %s: %s", self.id, failure.code, failure.message)


class WorkersAvailable(Notices):
    """Tells at once when a worker comes, says who it is, or goes."""

    def __init__(self, invoker: Invoker) -> None:
        super().__init__(
            "engine::workers-available", "A worker came, announced itself, or went", invoker
        )

    def tell(self, event: WorkerEvent, worker: Worker) -> None:
        """Tell of one worker."""
        self.fire({"event": event, "worker_id": worker.id})


class FunctionsAvailable(Notices):
    """Tells which functions there are, when that has changed; looks every `period_s`."""

    def __init__(
        self,
        invoker: Invoker,
        functions: FunctionTable,
        summaries: Callable[[], list[dict[str, object]]],
        timers: Timers,
        period_s: float,
    ) -> None:
        super().__init__("engine::functions-available", "The set of functions has changed", invoker)
        self._functions = functions
        self._summaries = summaries
        self._timers = timers
        self._period_s = period_s
        self._known: set[tuple[str, str]] = set()
        self._timer: Timer | None = None

    def start(self) -> None:
        """Take what there is now as known, and look again after a while."""
        self._known = self._present()
        self._timer = self._timers.call_later(self._period_s, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        present = self._present()
        if present != self._known:
            self._known = present
            if self.triggers:
                self.fire({"event": "functions_changed", "functions": self._summaries()})
        self._timer = self._timers.call_later(self._period_s, self._look)

    def _present(self) -> set[tuple[str, str]]:
        return {(function.namespace, function.id) for function in self._functions.all()}
