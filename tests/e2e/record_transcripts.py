"""Write down what each SDK and the server say to each other in one fixed session.

`cd tests && python -m e2e.record_transcripts` writes `tests/vectors/transcripts/*.jsonl` anew; the
unit tests feed what the SDKs said to an engine and compare its answers. A line is
`[connection, "W" or "H", text]`: the second connection is the same worker, come back after the
first one broke off. Texts are exactly as on the wire, except for stack traces and systems' names.
"""

from __future__ import annotations

import json
import re
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from e2e.proxies import Conversation, RecordingProxy
from e2e.sdks import REPOSITORY, SDKS, Sdk
from e2e.servers import Server
from e2e.workers import CallError, Worker

TRANSCRIPTS = REPOSITORY / "tests" / "vectors" / "transcripts"
INTERNAL_ERROR = 1011
OF_THE_MACHINE = re.compile(r'("(?:stacktrace|os)": ?)"(?:[^"\\]|\\.)*"')


def main() -> None:
    """Record every SDK that is installed."""
    TRANSCRIPTS.mkdir(parents=True, exist_ok=True)
    for sdk in SDKS:
        with tempfile.TemporaryDirectory() as directory:
            conversations = record(sdk, Path(directory))
        lines = [
            json.dumps([number, who, OF_THE_MACHINE.sub(r'\1"…"', str(text))], ensure_ascii=False)
            for number, conversation in enumerate(conversations)
            for who, text in conversation.messages
        ]
        (TRANSCRIPTS / f"{sdk}.jsonl").write_text("\n".join(lines) + "\n")
        print(f"{sdk}: {len(lines)} messages")


def record(sdk: Sdk, directory: Path) -> list[Conversation]:
    """Have one worker go through the session."""
    with ExitStack() as stack:
        server = stack.enter_context(Server(directory / "data"))
        proxy = stack.enter_context(RecordingProxy(server.address))
        worker = stack.enter_context(
            Worker(sdk, proxy.address, directory / "worker", worker_name="recorded")
        )
        first = proxy.conversation("/")
        register(worker)
        use_state(worker)
        use_functions(worker)
        first.worker.close(INTERNAL_ERROR)
        second = proxy.conversation("/", 1)
        come_back(worker)
        worker.shut_down()
    return [first, second]


def register(worker: Worker) -> None:
    """Functions and a binding."""
    worker.serve("recorded::echo", "echo", description="echoes", metadata={"k": 1})
    worker.serve("recorded::fail", "fail")
    worker.serve("recorded::on")
    worker.bind("recorded::on", {"scope": "s"}, metadata={"tag": "x"})


def use_state(worker: Worker) -> None:
    """All six functions, and how they refuse."""
    address = {"scope": "s", "key": "k"}
    worker.call("state::set", {**address, "value": {"n": 1, "text": "ü", "nul": None}})
    worker.events_of("recorded::on", 1)
    operations: list[dict[str, Any]] = [
        {"type": "increment", "path": "n", "by": 2},
        {"type": "append", "path": "tags", "value": ["x"]},
        {"type": "increment", "path": "text", "by": 1},
    ]
    worker.call("state::update", {**address, "ops": operations})
    worker.events_of("recorded::on", 2)
    worker.call("state::get", address)
    worker.call("state::get", {"scope": "s", "key": "absent"})
    worker.call("state::set", {"scope": "other", "key": "null", "value": None})
    worker.call("state::get", {"scope": "other", "key": "null"})
    worker.call("state::list", {"scope": "s"})
    worker.call("state::list_groups", {})
    with suppress(CallError):
        worker.call("state::get", {"scope": "s"})
    worker.call("state::delete", address)
    worker.events_of("recorded::on", 3)


def use_functions(worker: Worker) -> None:
    """Calls of every kind."""
    worker.call("recorded::echo", {"a": [1, 2.5, "ü"]})
    worker.call("recorded::echo", "quietly", action={"type": "void"})
    worker.calls_of("recorded::echo", 2)
    for function_id in ("recorded::fail", "recorded::nobody"):
        with suppress(CallError):
            worker.call(function_id, {})
    with suppress(CallError):
        worker.call("recorded::echo", {}, action={"type": "enqueue", "queue": "jobs"})
    worker.ask("create_channel")
    worker.ask("withdraw", function_id="recorded::fail")


def come_back(worker: Worker) -> None:
    """The SDK registers all again by itself."""
    worker.call("state::set", {"scope": "s", "key": "k", "value": "again"})
    worker.events_of("recorded::on", 4)
    worker.call("recorded::echo", "still there")


if __name__ == "__main__":
    main()
