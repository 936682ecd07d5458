"""The engine: workers come and go, and what each of their messages does.

Text goes in through `receive`, in the order in which a connection sent it; what the engine sends
leaves through the worker's `Peer`. One handler per message type, in the table at the end of
`Engine.__init__`; a new type is a handler and a row there.

Source: docs/protocol.md.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial

from iii_state.core.changes import Change
from iii_state.core.dead_letters import DeadLetters
from iii_state.core.store import Store
from iii_state.core.values import nests_deeper_than
from iii_state.engine.announcement import Announcements
from iii_state.engine.calls import EngineCall, WorkerCall
from iii_state.engine.catalogue import Catalogue
from iii_state.engine.chains import Chains
from iii_state.engine.channels import Channels
from iii_state.engine.commits import Commits
from iii_state.engine.conditions import Conditions
from iii_state.engine.diagnostics import Diagnostics
from iii_state.engine.discovery import Discovery
from iii_state.engine.expiries import Expiries
from iii_state.engine.feed_calls import FeedCalls
from iii_state.engine.feed_functions import FeedFunctions
from iii_state.engine.functions import DEFAULT_NAMESPACE, Builtin, FunctionTable
from iii_state.engine.invocations import Failure, Forget, Reply
from iii_state.engine.listing_functions import ListingFunctions
from iii_state.engine.notices import FunctionsAvailable, WorkersAvailable
from iii_state.engine.reactions import Reactions
from iii_state.engine.registrations import Registrations
from iii_state.engine.state import StateFunctions
from iii_state.engine.store_ledger import StoreLedger
from iii_state.engine.timers import Timers
from iii_state.engine.trigger_functions import TriggerFunctions
from iii_state.engine.trigger_types import StateTriggers
from iii_state.engine.triggers import Triggers
from iii_state.engine.workers import Peer, Worker
from iii_state.engine.writing_functions import WritingFunctions
from iii_state.settings import Settings
from iii_state.wire import messages
from iii_state.wire.frames import (
    ABSENT,
    UNDECODABLE,
    Frame,
    Registration,
    decode_frame,
    decode_registration,
    invocation_id_of,
    sent,
)

log = logging.getLogger("iii_state.engine")

INTERNAL_ERROR = 1011
"""A close code. Source: docs/protocol.md, disconnects."""

FUNCTIONS_CHECK_S = 5.0
"""How often the set of functions is looked at. Source: docs/protocol.md, notices."""

LETTERS_PART = 4  # one in so many bytes of a log segment, each of which begins with all letters

REGISTRATION_NESTING_MAX = 127
"""As in the original; so what is kept of a registration can be decoded at any time later."""


class Engine:
    """Everything that is connected, and everything that can be called.

    Time comes from `timers`, by default the running event loop.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock_ms: Callable[[], int],
        new_id: Callable[[], str],
        timers: Timers | None = None,
    ) -> None:
        self.store = store
        self.settings = settings
        self.timers = timers if timers is not None else asyncio.get_running_loop()
        self.functions = FunctionTable()
        self._chains = Chains()
        self.workers: dict[str, Worker] = {}
        self._clock_ms = clock_ms
        self.new_id = new_id
        self.expiries = Expiries(store, self.timers, clock_ms)
        self.commits = Commits(
            store,
            self._committed,
            gather_us=settings.gather_us,
            expiries=self.expiries,
        )
        self._ledger = StoreLedger(store, self.commits.soon)
        self.reactions = Reactions(
            store,
            self,
            self.timers,
            resume_window_s=settings.resume_window_s,
            enabled=settings.triggers_enabled,
            ledger=self._ledger,
            letters=DeadLetters(bytes_max=settings.segment_bytes // LETTERS_PART),
            max_chain_depth=settings.max_chain_depth,
            clock_ms=clock_ms,
        )
        self._feed_calls = FeedCalls(store, self.timers)
        self.triggers = Triggers()
        self.channels = Channels(new_id, self.timers)
        self._workers_available = WorkersAvailable(self)
        self.registrations = Registrations(self)
        catalogue = Catalogue(
            self.functions, self.triggers, self.workers, self.reactions, clock_ms()
        )
        self._functions_available = FunctionsAvailable(
            self,
            self.functions,
            catalogue.function_summaries,
            self.timers,
            FUNCTIONS_CHECK_S,
        )
        self._add_own(catalogue)
        self._handlers: dict[str, Callable[[Worker, Frame], None]] = {
            "invokefunction": self._on_invoke,
            "invocationresult": self._on_result,
            "ping": self._on_ping,
            "pong": self._ignore,
            "registerservice": self._ignore,
        }
        self._registration_handlers: dict[str, Callable[[Worker, Registration], None]] = {
            "reattach": self._on_reattach,
            **self.registrations.handlers(),
        }

    def _add_own(self, catalogue: Catalogue) -> None:
        """Add the trigger types and functions that are there from the start."""
        for trigger_type in (
            StateTriggers(self.reactions),
            self._workers_available,
            self._functions_available,
        ):
            self.triggers.add_builtin(trigger_type)
        conditions = Conditions(self.store, self.commits, self._clock_ms)
        for group in (
            StateFunctions(self.store, self.commits, conditions, self.settings),
            ListingFunctions(self.store, self.commits, conditions, self.timers),
            WritingFunctions(self.store, self.commits, conditions, self.settings),
            FeedFunctions(self.store, self._feed_calls),
            TriggerFunctions(self.reactions, self.triggers, self.commits, self._ledger),
            Announcements(self.registrations.settle, self._announced),
            Discovery(catalogue, self.functions, self.triggers, self.workers),
            self.channels,
            Diagnostics(),
        ):
            for function in group.functions():
                self.functions.add_builtin(function)

    def start(self) -> None:
        """Begin to serve. Needs a running event loop."""
        self.commits.start()
        self.expiries.start()
        self._functions_available.start()

    async def stop(self) -> None:
        """Commit and answer what is waiting. Connections stay; the host closes them."""
        self.reactions.stop()
        self._feed_calls.stop()
        self.expiries.stop()
        self._functions_available.stop()
        await self.commits.stop()

    async def drain(self, grace_s: float) -> None:
        """Take no more calls, answer what is in flight; stop what workers still run after a while.

        Results are taken meanwhile. Calls that come are failed: nothing of them is done.
        """
        self._handlers["invokefunction"] = self._refuse_while_draining
        self.reactions.stop()
        self._feed_calls.stop()
        await self.commits.settled()
        until = time.monotonic() + grace_s
        while time.monotonic() < until and any(w.executing for w in self.workers.values()):
            await asyncio.sleep(0.01)
        for worker in list(self.workers.values()):
            worker.stop_executing()

    def connect(self, peer: Peer, address: str) -> Worker:
        """Take a new worker connection and greet it."""
        worker = Worker(
            self.new_id(),
            secrets.token_hex(16),
            peer,
            address,
            self._clock_ms(),
            calls_max=self.settings.in_flight_max,
            call_bytes_max=self.settings.in_flight_bytes_max,
        )
        self.workers[worker.id] = worker
        peer.send(messages.worker_registered(worker.id, worker.reattach_token))
        self.registrations.begin(worker)
        self._workers_available.tell("worker_connected", worker)
        return worker

    def receive(self, worker: Worker, text: str) -> None:
        """Take one message of a worker. Never raises: a fault of ours ends the connection."""
        try:
            try:
                frame = decode_frame(text)
                handler = self._handlers.get(frame.type)
                if handler is not None:
                    handler(worker, frame)
                elif frame.type in self._registration_handlers:
                    self._register(worker, frame.type, text)
                else:
                    log.info(
                        "worker %s sent a message of unknown type %.64r", worker.label, frame.type
                    )
            except UNDECODABLE as error:
                self._on_undecodable(worker, text, error)
        except Exception:
            log.exception("a message of worker %s cannot be handled", worker.label)
            worker.peer.close(INTERNAL_ERROR, "the server failed at a message; see its log")

    def disconnect(self, worker: Worker) -> None:
        """Forget a worker whose connection has ended: all it ran, bound and provided."""
        if not worker.connected:
            return
        worker.connected = False
        self.registrations.end(worker)
        self._feed_calls.forget(worker)
        del self.workers[worker.id]
        if worker.calls_open:
            for other in self.workers.values():
                other.forget_calls_of(worker)
        self._workers_available.tell("worker_disconnected", worker)

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
        """See `Invoker.invoke`."""
        find = self.functions.find_any if is_shared else self.functions.find
        function = find(namespace, function_id)
        if function is None:
            reply(None, self.functions.missing(namespace, function_id))
            return None
        invocation_id = self.new_id()
        traceparent = self._chains.traceparent(depth) if depth else None
        call = EngineCall(
            function.member, data, invocation_id, metadata, reply=reply, traceparent=traceparent
        )
        function.run(call)
        if isinstance(function, Builtin):
            return None
        return partial(function.worker.forget, invocation_id)

    def _committed(self, changes: Sequence[Change]) -> None:
        self.reactions.committed(changes)
        self._feed_calls.committed()

    def _register(self, worker: Worker, message_type: str, text: str) -> None:
        encoded = text.encode()
        if nests_deeper_than(encoded, REGISTRATION_NESTING_MAX):
            log.warning(
                "worker %s sent a %s that nests deeper than %d levels; dropped",
                worker.label,
                message_type,
                REGISTRATION_NESTING_MAX,
            )
            return
        frame = decode_registration(text)
        if len(encoded) > self.settings.registration_bytes_max:
            self.registrations.refuse_size(worker, frame, len(encoded))
        else:
            self._registration_handlers[message_type](worker, frame)

    def _announced(self, worker: Worker) -> None:
        self._workers_available.tell("worker_metadata_updated", worker)

    def _on_invoke(self, worker: Worker, frame: Frame) -> None:
        function_id, namespace, action = frame.function_id, frame.namespace, frame.action
        if function_id is None:
            log.info("worker %s sent a call without function_id; dropped", worker.label)
            return
        function = self.functions.find(namespace or DEFAULT_NAMESPACE, function_id)
        call = WorkerCall(
            function.member if function is not None else messages.function_member(function_id),
            frame.data,
            frame.invocation_id,
            None if frame.metadata is ABSENT else sent(frame.metadata),
            worker.origin,
            worker,
        )
        if frame.traceparent is not None or frame.baggage is not None:
            call.traceparent, call.baggage = frame.traceparent, frame.baggage
            call.origin = self._chains.origin(worker, frame.traceparent, frame.baggage)
        if action is not None:
            if action.type != "void":
                self._refuse_action(call, action.type)
                return
            call.invocation_id = None
        if namespace is not None and not namespace.strip():
            call.fail(Failure("INVALID_NAMESPACE", "The namespace of a call cannot be blank"))
        elif function is None:
            call.fail(self.functions.missing(namespace or DEFAULT_NAMESPACE, function_id))
        else:
            function.run(call)

    def _refuse_while_draining(self, worker: Worker, frame: Frame) -> None:
        if frame.invocation_id is None:
            return
        error: dict[str, object] = {
            "code": "invocation_stopped",
            "message": "The server is stopping; the call was not carried out",
        }
        function = messages.function_member(frame.function_id or "")
        worker.peer.send(messages.invocation_failure(frame.invocation_id, function, error))

    @staticmethod
    def _refuse_action(call: WorkerCall, action: str) -> None:
        if action == "enqueue":
            call.fail(
                Failure(
                    "enqueue_error",
                    "This host has no queues: function 'engine::queue::enqueue' not found. Call "
                    "the function directly, or bind a state trigger",
                )
            )
        else:
            call.fail(Failure("deserialization_error", f"Unknown action type {action[:200]!r}"))

    def _on_result(self, worker: Worker, frame: Frame) -> None:
        if frame.invocation_id is None:
            log.info("worker %s sent a result without invocation_id; dropped", worker.label)
            return
        error = frame.error
        failure = None
        if error is not None:
            failure = Failure(error.code, error.message, error.stacktrace)
        worker.finish(frame.invocation_id, sent(frame.result), failure)

    def _on_reattach(self, worker: Worker, frame: Registration) -> None:
        """Retire the half-dead connection that this worker had before, entirely, at once."""
        previous = self.workers.get(frame.previous_worker_id or "")
        token = frame.reattach_token
        if previous is None or previous is worker or token is None:
            return
        if not secrets.compare_digest(previous.reattach_token.encode(), token.encode()):
            log.warning("worker %s sent a reattach token that does not match", worker.label)
            return
        previous.peer.abort()
        self.disconnect(previous)

    def _on_ping(self, worker: Worker, frame: Frame) -> None:
        worker.peer.send(messages.PONG)

    def _ignore(self, worker: Worker, frame: Frame) -> None:
        pass

    def _on_undecodable(self, worker: Worker, text: str, error: Exception) -> None:
        if not text.strip():
            return
        reason = "it nests too deep" if isinstance(error, RecursionError) else str(error)
        message = f"The message does not decode: {reason}. It was dropped; nothing changed."
        log.info("worker %s: %s", worker.label, message)
        invocation_id = invocation_id_of(text)
        if invocation_id is not None:
            error_body: dict[str, object] = {"code": "deserialization_error", "message": message}
            function = messages.function_member("")
            worker.peer.send(messages.invocation_failure(invocation_id, function, error_body))


def random_ids() -> Callable[[], str]:
    """Makes unique ids in the form of UUIDs: random per process, then counted.

    A counter behind 64 random bits costs a tenth of a random UUID, and an id is needed for every
    event that is delivered.
    """
    high = secrets.randbits(64) << 64
    count = 0

    def new_id() -> str:
        nonlocal count
        count += 1
        text = f"{high | count:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    return new_id
