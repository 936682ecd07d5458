"""`triggers` and `dlq`: how reactions fare, through a real server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from programs import server

from iii_state.cli import cli
from iii_state.client import Client, connect
from iii_state.errors import InvalidRequest

CONFIG = {"scope": "s", "durable": "billing", "retry": {"max_attempts": 1}}


@pytest.fixture
def url() -> Iterator[str]:
    with server("--in-memory") as (_, address):
        yield address


def run(url: str, *args: str) -> Result:
    return CliRunner().invoke(cli, args, env={"III_URL": url, "TZ": "UTC"})


def lines(result: Result) -> list[Any]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


class FailingWorker:
    """A worker in a thread of its own that fails every event."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client: Client = self._do(self._begin(url))

    async def _begin(self, url: str) -> Client:
        client = await connect(url, name="w")
        await client.__aenter__()
        client.register_function("f", _fail, "Fails.")
        client.register_trigger("t", "state", "f", CONFIG)
        await client.ping(timeout_s=10)
        return client

    def stop(self) -> None:
        self._do(self._client.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


def _fail(_: bytes) -> None:
    raise InvalidRequest("out of order")


@pytest.fixture
def failing(url: str) -> Iterator[FailingWorker]:
    worker = FailingWorker(url)
    yield worker
    worker.stop()


def with_letters(url: str, count: int) -> None:
    for number in range(count):
        assert run(url, "set", "s", f"k{number}", "1").exit_code == 0
    until(lambda: len(lines(run(url, "dlq", "ls"))) == count)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
    raise AssertionError("it never came to that")


def test_triggers_are_listed_shown_paused_resumed_and_deleted(
    url: str, failing: FailingWorker
) -> None:
    with_letters(url, 1)
    [listed] = lines(run(url, "triggers", "ls"))
    table = run(url, "triggers", "ls", "-o", "table").stdout
    paused = json.loads(run(url, "triggers", "pause", "billing").stdout)
    resumed = json.loads(run(url, "triggers", "resume", "t", "--id").stdout)
    shown = json.loads(run(url, "triggers", "show", "billing").stdout)
    removed = run(url, "triggers", "rm", "billing")
    gone = run(url, "triggers", "show", "billing")

    assert (listed["name"], listed["dead_letters"], listed["config"]) == ("billing", 1, CONFIG)
    assert all(word in table for word in ("billing", "live", "last error", "out of order"))
    assert [each["paused"] for each in (paused, resumed, shown)] == [True, False, False]
    assert (removed.exit_code, removed.stdout, removed.stderr) == (0, "", "deleted billing\n")
    assert (gone.exit_code, gone.stdout) == (3, "")
    assert "code: NOT_FOUND" in gone.stderr
    assert "an id needs --id" in gone.stderr


def test_the_table_names_members_of_configs_that_mean_nothing(url: str) -> None:
    async def with_trigger() -> str:
        async with await connect(url, name="w") as client:
            client.register_function("f", _fail, "Fails.")
            client.register_trigger("t", "state", "f", {"scope": "s"})
            await client.ping(timeout_s=10)
            before = await asyncio.to_thread(run, url, "triggers", "ls", "-o", "table")
            client.register_trigger("u", "state", "f", {"scopes": "s"})
            await client.ping(timeout_s=10)
            assert "unknown" not in before.stdout
            return (await asyncio.to_thread(run, url, "triggers", "ls", "-o", "table")).stdout

    table = asyncio.run(with_trigger())

    assert "unknown members" in table
    assert "'scopes' (did you mean 'scope'?)" in table


def test_dead_letters_are_listed_sent_again_and_discarded(url: str, failing: FailingWorker) -> None:
    with_letters(url, 3)
    first = run(url, "dlq", "ls", "billing", "-n", "2")
    table = run(url, "dlq", "ls", "-o", "table").stdout
    discarded = run(url, "dlq", "discard", "billing@1", "billing@9")
    redriven = run(url, "dlq", "redrive", "--trigger", "billing")
    until(lambda: len(lines(run(url, "dlq", "ls"))) == 2)
    attempts = [letter["attempts"] for letter in lines(run(url, "dlq", "ls"))]
    everything = run(url, "dlq", "discard", "--all")
    nothing = run(url, "dlq", "redrive", "--all")

    assert [letter["id"] for letter in lines(first)] == ["billing@1", "billing@2"]
    assert first.stderr == "there are more; see -n (now 2)\n"
    assert all(word in table for word in ("billing@3", "s/k2", "out of order"))
    assert (json.loads(discarded.stdout), discarded.exit_code) == ({"discarded": 1}, 0)
    assert json.loads(redriven.stdout) == {"redriven": 2}
    assert attempts == [2, 2]
    assert json.loads(everything.stdout) == {"discarded": 2}
    assert (json.loads(nothing.stdout), nothing.exit_code) == ({"redriven": 0}, 3)


@pytest.mark.parametrize(
    "args",
    [
        ("dlq", "redrive"),
        ("dlq", "discard", "x@1", "--all"),
        ("triggers", "show"),
        ("triggers", "rename"),
    ],
)
def test_what_is_meant_has_to_be_said(url: str, args: tuple[str, ...]) -> None:
    assert run(url, *args).exit_code == 2
