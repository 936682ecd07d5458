"""The workers of a simulated world that are replicas: some run, some do not answer, some are gone.

The table of functions and the engine's side of the workers are the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import msgspec

from iii_state.engine import functions
from iii_state.engine.calls import EngineCall
from iii_state.engine.functions import DEFAULT_NAMESPACE, WorkerFunction
from iii_state.engine.invocations import Failure, Forget, Reply
from iii_state.engine.workers import Worker

REPLICAS = {"grouped": 3, "told": 2}
"""How many replicas run and bind a function."""


class Answer:
    """The way back of a call that a replica has."""

    def __init__(self, replica: Replica, worker: Worker, invocation_id: str) -> None:
        self.replica = replica
        self._worker = worker
        self._invocation_id = invocation_id

    def __call__(self, result: bytes | None, failure: Failure | None) -> None:
        self._worker.finish(self._invocation_id, result, failure)


Called = Callable[["Replica", bytes, Answer], None]
"""Which replica was called, with which data, and how it answers."""


class Replica:
    """One of several workers that run the same function, and bind it.

    `is_deaf`: it answers nothing. `runs` and `binds`: it has registered its function, its trigger.
    """

    def __init__(self, function_id: str, number: int, called: Called) -> None:
        self.function_id = function_id
        self.binding_id = f"{function_id} {number}"
        self.worker: Worker | None = None
        self.is_deaf = self.runs = self.binds = False
        self._called = called

    def connect(self, worker_id: str) -> Worker:
        """Connect anew."""
        self.is_deaf = self.runs = self.binds = False
        connection = Connection(self)
        self.worker = connection.worker = Worker(
            worker_id, "", connection, "", 0, calls_max=1000, call_bytes_max=1 << 20
        )
        return self.worker

    def receive(self, worker: Worker | None, text: bytes) -> None:
        """Take a message that was sent to a connection of it."""
        message = msgspec.json.decode(text, type=dict[str, Any])
        assert message["type"] == "invokefunction", message
        assert worker is not None
        assert worker is self.worker, f"{self.binding_id} is dead but called"
        data = msgspec.json.encode(message["data"])
        self._called(self, data, Answer(self, worker, message["invocation_id"]))


class Connection:
    """A connection of a replica. It is always read."""

    has_room = True

    def __init__(self, replica: Replica) -> None:
        self.worker: Worker | None = None
        self._replica = replica

    def send(self, text: bytes) -> None:
        self._replica.receive(self.worker, text)

    def flush(self) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        raise AssertionError(reason)

    def abort(self) -> None:
        raise AssertionError("nobody aborts")

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Groups:
    """All replicas, and which functions there are. In a new process all of them are away."""

    def __init__(self, called: Called) -> None:
        self.table = functions.FunctionTable()
        self.replicas = [
            Replica(function_id, number, called)
            for function_id, replicas in REPLICAS.items()
            for number in range(replicas)
        ]
        self._ids = count(1)

    @property
    def present(self) -> list[Replica]:
        """Those that are connected."""
        return [replica for replica in self.replicas if replica.worker is not None]

    @property
    def away(self) -> list[Replica]:
        """Those that are not."""
        return [replica for replica in self.replicas if replica.worker is None]

    def connect(self, replica: Replica) -> Worker:
        """Connect a replica anew; it has registered nothing."""
        return replica.connect(f"worker-{next(self._ids)}")

    def register(self, replica: Replica) -> None:
        """Let it run its function, or stand by."""
        assert replica.worker is not None
        replica.runs = True
        self.table.register(
            WorkerFunction(
                replica.function_id,
                DEFAULT_NAMESPACE,
                replica.worker,
                lambda: f"i{next(self._ids)}",
            )
        )

    def unregister(self, replica: Replica) -> None:
        """Let it run its function no longer."""
        assert replica.worker is not None
        replica.runs = False
        self.table.unregister(replica.worker, replica.function_id)

    def disconnect(self, replica: Replica) -> Worker:
        """It has gone. As the engine does it: functions first, then what they ran."""
        worker = replica.worker
        assert worker is not None
        self.unregister(replica)
        replica.worker = None
        worker.stop_executing()
        return worker

    def invoke(
        self, function_id: str, data: bytes, reply: Reply, *, is_shared: bool
    ) -> Forget | None:
        """As the engine does it: whoever runs the function, or stands by for it, gets the call."""
        find = self.table.find_any if is_shared else self.table.find
        function = find(DEFAULT_NAMESPACE, function_id)
        if function is None:
            runs = [r.binding_id for r in self.replicas if r.function_id == function_id and r.runs]
            assert not runs, f"{function_id} is said to be missing, but {runs} run it"
            reply(None, self.table.missing(DEFAULT_NAMESPACE, function_id))
            return None
        assert isinstance(function, WorkerFunction)
        invocation_id = f"i{next(self._ids)}"
        function.run(EngineCall(function.member, data, invocation_id, reply=reply))
        return partial(function.worker.forget, invocation_id)
