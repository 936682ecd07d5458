"""`watch`: live changes, through a real server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from programs import environment, program, server

from iii_state.cli import cli
from iii_state.cli.watch import Event, line


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
