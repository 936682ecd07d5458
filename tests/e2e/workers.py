"""A worker process of one SDK, driven by a test; its twin programs explain the lines."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from e2e.lines import PATIENCE_S, Line, Lines
from e2e.sdks import Sdk

ABSENT = "<absent>"
"""What a Node worker got that was `undefined`: there was no result at all."""


Starter = Callable[..., "Worker"]
"""`start(sdk, address, **options)`: a worker that ends with the test."""


class CallError(Exception):
    """A call that the SDK reported as failed, with its code and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Worker:
    """A worker process. Started on entry, shut down on exit.

    `options` are those of the SDK's constructor: `worker_name`, and what one SDK alone has.
    """

    def __init__(self, sdk: Sdk, address: str, directory: Path, **options: Any) -> None:
        self.sdk = sdk
        self.address = address
        self._directory = directory
        self._options = {"worker_name": f"worker-{sdk}", **options}
        self._numbers = itertools.count()

    def __enter__(self) -> Worker:
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "log").open("w") as log:
            self._process = subprocess.Popen(
                self.sdk.command("worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                env=self._environment(),
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input = self._process.stdin
        self.lines = Lines(self._process.stdout)
        try:
            self.lines.wait_for(lambda line: line.get("event") == "ready", what="the worker ready")
        except AssertionError as error:
            self.kill()
            error.add_note(self.log())
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shut_down()

    def shut_down(self) -> None:
        """Have the SDK end the worker; it must do so soon."""
        if self._process.poll() is None:
            self._input.close()
            try:
                self._process.wait(PATIENCE_S)
            finally:
                self.kill()
        self.lines.join()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self.lines.join()
        if not self._input.closed:
            self._input.close()

    def log(self) -> str:
        """What it wrote to standard error, where SDKs log."""
        return (self._directory / "log").read_text()

    def ask(self, do: str, **arguments: Any) -> Line:
        """Have a command carried out; its answer, with `result` (unless absent) or `error`."""
        return self.answer(self.send(do, **arguments))

    def send(self, do: str, **arguments: Any) -> int:
        """Give a command without waiting; the number of its answer."""
        number = next(self._numbers)
        self._input.write(json.dumps({"n": number, "do": do, **arguments}) + "\n")
        return number

    def answer(self, number: int) -> Line:
        """The answer of a command.

        Raises:
            CallError: the SDK raised an error.
        """
        [answer] = self.lines.wait_for(lambda line: line.get("n") == number, what="an answer")
        if "error" in answer:
            raise CallError(answer["error"]["code"], answer["error"]["message"])
        return answer

    def call(self, function_id: str, payload: Any = None, **more: Any) -> Any:
        """Call a function through the SDK; its result, or `ABSENT`.

        Raises:
            CallError: it failed.
        """
        request = {"function_id": function_id, "payload": payload, **more}
        return self.ask("call", request=request).get("result", ABSENT)

    def serve(self, function_id: str, behaviour: str = "nothing", **options: Any) -> None:
        """Register a function with one of the programs' behaviours; others can call it then."""
        self.offer(function_id, behaviour, **options)
        self._wait_until_served(function_id)

    def offer(self, function_id: str, behaviour: str, **options: Any) -> None:
        """Have the SDK send a registration, whatever comes of it."""
        self.ask("serve", function_id=function_id, behaviour=behaviour, options=options)

    def bind(self, function_id: str, config: Any, *, to: str = "state", **more: Any) -> int:
        """Bind a trigger; the number to `unbind` it by."""
        trigger = {"type": to, "function_id": function_id, "config": config, **more}
        return int(self.ask("bind", trigger=trigger)["result"])

    def calls_of(self, function_id: str, count: int) -> list[Line]:
        """Wait until a function was called so often; `data` and `metadata` of all its calls."""
        return self.lines.wait_for(
            lambda line: line.get("event") == "called" and line["function"] == function_id,
            count,
            f"a call of {function_id}",
        )

    def events_of(self, function_id: str, count: int) -> list[Any]:
        """Wait until a function was called so often; the data of all its calls."""
        return [line["data"] for line in self.calls_of(function_id, count)]

    def _wait_until_served(self, function_id: str) -> None:
        # Registrations are not answered, and the first ones wait for the worker's announcement.
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.call("engine::functions::info", {"function_id": function_id})
                return
            except CallError as error:
                if error.code != "NOT_FOUND" or time.monotonic() > until:
                    raise

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("III_", "PYTHON"))}
        return inherited | {
            "HOME": str(self._directory),
            "III_URL": self.address,
            "SDK_DIRECTORY": str(self.sdk.directory),
            "WORKER_OPTIONS": json.dumps(self._options),
        }
