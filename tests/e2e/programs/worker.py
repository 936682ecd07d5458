"""A worker of the Python SDK that does what lines of JSON on its standard input say.

`worker.mjs` is its twin for Node; both know the same commands, and a test drives either. A command
is an object with `do` (a method below), a number `n` and arguments. It is answered by a line with
the same `n` and `result` or `error`; lines with `event` tell what the SDK was asked to do. When the
input ends, the worker shuts down.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import iii
from iii.triggers import TriggerHandler

try:
    from iii.helpers import create_channel
except ImportError:  # SDKs up to 0.13 have a method instead

    def create_channel(sdk: Any) -> Any:
        return sdk.create_channel()


Json = dict[str, Any]
LOCK = threading.Lock()


def tell(line: Json) -> None:
    text = json.dumps(line)
    with LOCK:
        print(text, flush=True)


class Provider(TriggerHandler):  # type: ignore[misc]  # the SDK is not installed here
    """Of a trigger type: refuses what says so, tells of the rest."""

    async def register_trigger(self, trigger: Any) -> None:
        if (trigger.config or {}).get("refuse"):
            raise ValueError("refused as asked")
        binding = {name: getattr(trigger, name) for name in ("function_id", "config", "metadata")}
        tell({"event": "bound", "id": trigger.id, "binding": binding})

    async def unregister_trigger(self, trigger: Any) -> None:
        tell({"event": "unbound", "id": trigger.id})


class Worker:
    """The commands."""

    def __init__(self, address: str, options: Json) -> None:
        self.sdk = iii.register_worker(address, iii.InitOptions(**options))
        self.functions: dict[str, Any] = {}
        self.bindings: list[Any] = []
        self.released = threading.Event()
        # Held here: a handler that waits for what nobody holds is garbage, and ends as such.
        self.never = asyncio.Event()

    def call(self, request: Json) -> Any:
        return self.sdk.trigger(request)

    def call_all(self, requests: list[Json]) -> None:
        """One after another, none waiting for an answer."""
        for request in requests:
            self.sdk.trigger({**request, "action": {"type": "void"}})

    def serve(self, function_id: str, behaviour: str, options: Json) -> None:
        plainly = behaviour == "again, plainly"
        handler = self.plain(function_id) if plainly else self.asynchronous(function_id, behaviour)
        # SDKs make schemas of annotations; a test gives its own.
        handler.__annotations__.clear()
        self.functions[function_id] = self.sdk.register_function(function_id, handler, **options)

    def plain(self, function_id: str) -> Callable[..., Any]:
        """A handler that SDKs run on a thread."""

        def handler(data: Any) -> None:
            tell({"event": "called", "function": function_id, "data": data, "metadata": None})
            if request := one_more(data):
                self.sdk.trigger(request)

        return handler

    def asynchronous(self, function_id: str, behaviour: str) -> Callable[..., Any]:
        async def handler(data: Any, metadata: Any = None) -> Any:
            if behaviour in ("read", "write"):
                return await getattr(self, behaviour)(data)
            tell({"event": "called", "function": function_id, "data": data, "metadata": metadata})
            if behaviour == "fail" or (behaviour == "stumble" and data["attempt"] == 1):
                raise ValueError("kaboom")
            if behaviour == "hang":
                await self.never.wait()
            if behaviour == "wait":
                await asyncio.to_thread(self.released.wait)
            if behaviour == "relay":
                return await self.sdk.trigger_async(data["request"])
            if behaviour == "again" and (request := one_more(data)):
                await self.sdk.trigger_async(request)
            if behaviour == "refuse":
                return False
            if behaviour == "provide":
                self.provide(data)
            return {"got": data} if behaviour == "echo" else None

        return handler

    def release(self) -> None:
        """Let the handlers that wait go on."""
        self.released.set()

    def withdraw(self, function_id: str) -> None:
        self.functions.pop(function_id).unregister()

    def bind(self, trigger: Json) -> int:
        self.bindings.append(self.sdk.register_trigger(trigger))
        return len(self.bindings) - 1

    def unbind(self, binding: int) -> None:
        self.bindings[binding].unregister()

    def provide(self, trigger_type: str) -> None:
        self.sdk.register_trigger_type({"id": trigger_type, "description": "a test's"}, Provider())

    def create_channel(self) -> Json:
        channel = create_channel(self.sdk)
        ends = {"reader": channel.reader_ref, "writer": channel.writer_ref}
        return {name: end.model_dump() for name, end in ends.items()}

    async def write(self, data: Json) -> None:
        writer = data["writer"]
        await writer.send_message_async(data["text"])
        await writer.write(pattern(data["size"]))
        await writer.close_async()

    async def read(self, data: Json) -> Json:
        texts: list[str] = []
        data["reader"].on_message(texts.append)
        content = await data["reader"].read_all()
        is_whole = content == pattern(len(content))
        return {"size": len(content), "texts": texts, "is_whole": is_whole}


def one_more(event: Json) -> Json | None:
    """The write that keeps a loop going: of the same key, up to 20."""
    number = event["new_value"] + 1
    payload = {"scope": event["scope"], "key": event["key"], "value": number}
    return {"function_id": "state::set", "payload": payload} if number <= 20 else None


def pattern(size: int) -> bytes:
    return bytes(n % 256 for n in range(size))


def carry_out(worker: Worker, command: Json) -> None:
    answer = {"n": command.pop("n")}
    try:
        answer["result"] = getattr(worker, command.pop("do"))(**command)
    except Exception as error:
        code, message = getattr(error, "code", None), getattr(error, "message", str(error))
        answer["error"] = {"code": code or type(error).__name__, "message": message}
    tell(answer)


def main() -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    warnings.simplefilter("default")
    worker = Worker(os.environ["III_URL"], json.loads(os.environ["WORKER_OPTIONS"]))
    tell({"event": "ready"})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "call":
            # A call may wait long; what comes behind it need not.
            threading.Thread(target=carry_out, args=(worker, command), daemon=True).start()
        else:
            carry_out(worker, command)
    worker.sdk.shutdown()


main()
