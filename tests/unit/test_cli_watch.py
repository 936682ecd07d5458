"""`watch`: live changes, through a real server."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from programs import Program, environment, program, server

import iii_state
from iii_state.cli import cli
from iii_state.cli.watch import Event, line
from iii_state.clock import wall_clock_ms
from iii_state.host.server import open_server
from iii_state.settings import Settings
from iii_state.stores.memory import MemoryStore


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server("--in-memory") as (_, address):
        yield address


def run(url: str, *args: str) -> None:
    result = CliRunner().invoke(cli, args, env={"III_URL": url})
    assert result.exit_code == 0, result.output


def test_changes_of_a_key_arrive_as_lines_of_json(url: str) -> None:
    with program("watch", "w1", "k", "-n", "3", env=environment(III_URL=url)) as watch:
        watch.error_line("watching")
        run(url, "set", "w1", "other", "0")
        run(url, "set", "elsewhere", "k", "0")
        run(url, "set", "w1", "k", "1")
        run(url, "update", "w1", "k", "--ops", '[{"type":"set","path":"","value":{"n":1}}]')
        run(url, "delete", "w1", "k")
        events = [json.loads(text) for text in watch.output]

        assert watch.finish() == 0

    assert [event["event_type"] for event in events] == [
        "state:created",
        "state:updated",
        "state:deleted",
    ]
    assert {(event["scope"], event["key"]) for event in events} == {("w1", "k")}
    assert [event["new_value"] for event in events] == [1, {"n": 1}, None]
    assert [event["revision"] for event in events] == sorted(event["revision"] for event in events)


def test_everything_can_be_watched(url: str) -> None:
    with program("watch", "-n", "2", env=environment(III_URL=url)) as watch:
        watch.error_line("watching")
        run(url, "set", "w2", "a", "1")
        run(url, "set", "w3", "b", "2")
        events = [json.loads(text) for text in watch.output]

    assert [event["scope"] for event in events] == ["w2", "w3"]


def test_ctrl_c_ends_with_130(url: str) -> None:
    with program("watch", env=environment(III_URL=url)) as watch:
        watch.error_line("watching")
        watch.process.send_signal(signal.SIGINT)

        assert watch.finish() == 130


def triggers(url: str) -> list[Any]:
    result = CliRunner().invoke(cli, ("triggers", "ls", "-o", "ndjson"), env={"III_URL": url})
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_that_is_told_to_end_leaves_no_trigger_behind(number: int, code: int) -> None:
    with server("--in-memory") as (_, url), program("watch", env=environment(III_URL=url)) as watch:
        watch.error_line("watching")
        assert [each["status"] for each in triggers(url)] == ["live"]
        watch.process.send_signal(number)

        assert watch.errors.read().strip() == ""
        assert watch.finish() == code
        assert triggers(url) == []


def test_one_that_has_counted_enough_leaves_no_trigger_behind() -> None:
    with server("--in-memory") as (_, url):
        with program("watch", "-n", "1", env=environment(III_URL=url)) as watch:
            watch.error_line("watching")
            run(url, "set", "s", "k", "1")

            assert watch.finish() == 0
        assert triggers(url) == []


def test_a_reader_that_has_had_enough_ends_it_in_peace(url: str) -> None:
    with program("watch", "w4", env=environment(III_URL=url)) as watch:
        watch.error_line("watching")
        watch.output.close()
        run(url, "set", "w4", "k", "1")

        assert watch.errors.read() == ""
        assert watch.finish() == 0


def test_it_connects_again_when_the_server_comes_back(tmp_path: Any) -> None:
    data = str(tmp_path / "data")
    with server("--data-dir", data) as (first, address):
        port = address.rpartition(":")[2]
        with program("watch", "w5", "-n", "1", env=environment(III_URL=address)) as watch:
            watch.error_line("watching")
            assert first.stop() == 0
            watch.error_line("trying again")
            with server("--data-dir", data, "--port", port):
                watch.error_line("connected again")
                run(address, "set", "w5", "k", "1")

                assert json.loads(watch.output.read())["new_value"] == 1
                assert watch.finish() == 0


def test_the_first_connection_must_work() -> None:
    result = CliRunner().invoke(cli, ["watch", "--url", "ws://127.0.0.1:1"])

    assert result.exit_code == 5


def test_lines_for_people_can_be_had_in_a_pipe(url: str) -> None:
    with program("watch", "w6", "-n", "1", "-o", "raw", env=environment(III_URL=url)) as watch:
        watch.error_line("watching")
        run(url, "set", "w6", "k", '"v"')

        assert watch.output.read().endswith('created  w6/k  "v"\n')


# -- from a revision ------------------------------------------------------------------------------


def values(watch: Program) -> list[Any]:
    return [json.loads(text)["new_value"] for text in watch.output]


def test_what_was_written_before_can_be_watched_and_then_what_comes(url: str) -> None:
    for number in range(3):
        run(url, "set", "f1", "k", str(number))
    run(url, "set", "f1", "other", "0")
    args = ("watch", "f1", "k", "--from", "oldest", "-n", "4")
    with program(*args, env=environment(III_URL=url)) as watch:
        watch.error_line("watching")
        run(url, "set", "f1", "k", "3")
        events = [json.loads(text) for text in watch.output]

        assert watch.finish() == 0

    assert [event["new_value"] for event in events] == [0, 1, 2, 3]
    after = str(events[1]["revision"])
    with program("watch", "f1", "k", "--from", after, "-n", "2", env=environment(III_URL=url)) as w:
        assert values(w) == [2, 3]


def test_from_now_begins_with_the_next_change(url: str) -> None:
    run(url, "set", "f2", "k", "0")
    with program("watch", "f2", "--from", "now", "-n", "1", env=environment(III_URL=url)) as watch:
        watch.error_line("watching")
        run(url, "set", "f2", "k", "1")

        assert values(watch) == [1]


def test_nothing_is_lost_or_repeated_over_a_restart_of_the_server(tmp_path: Path) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    with server(*data) as (first, address):
        again = (*data, "--port", address.rpartition(":")[2])
        args = ("watch", "f3", "--from", "0", "-n", "6")
        run(address, "set", "f3", "k", "0")
        with program(*args, env=environment(III_URL=address)) as watch:
            watch.error_line("watching")
            run(address, "set", "f3", "k", "1")
            assert first.stop() == 0
            watch.error_line("trying again")
            with server(*again) as (second, _):
                watch.error_line("connected again")
                run(address, "set", "f3", "k", "2")
                second.process.kill()
                watch.error_line("trying again")
            # Written while nobody watches.
            with iii_state.open_sync(tmp_path / "data") as state:
                state.set("f3", "k", 3)
                state.set("f3", "k", 4)
            with server(*again):
                watch.error_line("connected again")
                run(address, "set", "f3", "k", "5")

                assert values(watch) == [0, 1, 2, 3, 4, 5]
                assert watch.finish() == 0


def test_what_is_no_longer_kept_is_said_and_ends_it() -> None:
    env = environment(III_STATE_HISTORY_BYTES="0")
    with server("--in-memory", env=env) as (_, address):
        for number in range(3):
            run(address, "set", "f4", "k", str(number))
        result = CliRunner().invoke(
            cli, ["watch", "--from", "1", "-o", "json"], env={"III_URL": address}
        )
        kept = CliRunner().invoke(
            cli, ["watch", "--from", "oldest", "-n", "1"], env={"III_URL": address}
        )

    assert result.exit_code == 1
    error = json.loads(result.stderr.splitlines()[-1])["error"]
    assert error["code"] == "REVISION_COMPACTED"
    assert error["details"]["revision"] == 1
    assert "the oldest that can be asked for is 2" in error["message"]
    assert json.loads(kept.stdout)["revision"] == 3


def test_a_server_that_starts_with_nothing_is_not_taken_for_the_old_one() -> None:
    with server("--in-memory") as (first, address):
        run(address, "set", "f5", "k", "1")
        port = address.rpartition(":")[2]
        with program("watch", "--from", "1", env=environment(III_URL=address)) as watch:
            watch.error_line("watching")
            first.stop()
            watch.error_line("trying again")
            with server("--in-memory", "--port", port):
                watch.error_line("the newest revision is 0")

                assert watch.finish() == 2


@pytest.mark.parametrize("start", ["-1", "later", "1.5", ""])
def test_a_start_that_is_no_revision_is_refused(start: str) -> None:
    result = CliRunner().invoke(cli, ["watch", "--from", start])

    assert result.exit_code == 2
    assert "revision" in result.stderr


async def test_a_host_without_a_change_log_is_told() -> None:
    async with old_host() as address:
        with program("watch", "--from", "3", env=environment(III_URL=address)) as watch:
            said = await asyncio.to_thread(watch.errors.read)
            code = await asyncio.to_thread(watch.finish)

    assert code == 1
    assert "watch without --from" in said


@asynccontextmanager
async def old_host() -> AsyncIterator[str]:
    """A host that has not heard of the change feed."""
    async with open_server(Settings(port=0), MemoryStore(wall_clock_ms)) as server:
        del server.engine.functions.builtins["state::changes"]
        yield server.address


def event(kind: str, old: str, new: str, **more: Any) -> Event:
    return Event(
        f"state:{kind}", "s", "k", msgspec.Raw(old.encode()), msgspec.Raw(new.encode()), **more
    )


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (event("created", "null", '"new"'), 'created  s/k  "new"'),
        (event("deleted", "[1]", "null"), "deleted  s/k  [1]"),
        (event("updated", "1", "2", revision=7), "r7  updated  s/k  1 → 2"),
        (event("updated", "1", "1"), "updated  s/k  no change"),
        (event("updated", '{"a":1}', '{"a":1}'), "updated  s/k  no change"),
        (
            event("updated", '{"a":1,"b":2,"c":0}', '{"a":3,"c":0,"d":4}'),
            "updated  s/k  a: 1 → 3, -b, +d: 4",
        ),
        (event("created", "null", '"' + "x" * 99 + '"'), '"' + "x" * 58 + "…"),
        (event("created", "null", '"\x9b\u202e"'), '"\\u009b\\u202e"'),
        (event("updated", "null", "null", values_omitted=True), "(values too large to show)"),
    ],
)
def test_a_change_is_one_readable_line(change: Event, shown: str) -> None:
    assert line(change).endswith(shown)


def test_the_line_begins_with_the_events_time() -> None:
    assert line(event("created", "null", "1", timestamp_ms=1_700_000_000_123))[8:12] == ".123"
