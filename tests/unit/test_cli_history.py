"""`history`: the versions of a key, through a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result
from programs import environment, server

from iii_state.cli import cli


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server("--in-memory") as (_, address):
        yield address


def run(url: str, *args: str) -> Result:
    return CliRunner().invoke(cli, args, env={"III_URL": url, "TZ": "UTC"})


def written(url: str, scope: str) -> None:
    """A key that is created, changed, deleted and created again."""
    for args in (
        ("set", scope, "k", '{"n": 1}'),
        ("set", scope, "other", "0"),
        ("set", scope, "k", "null"),
        ("delete", scope, "k"),
        ("set", scope, "k", "3"),
    ):
        assert run(url, *args).exit_code == 0


def test_into_a_pipe_each_version_is_a_line_of_json(url: str) -> None:
    written(url, "h1")

    result = run(url, "history", "h1", "k")

    versions = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert [version["event_type"] for version in versions] == [
        "state:created",
        "state:deleted",
        "state:updated",
        "state:created",
    ]
    assert [version.get("value", "absent") for version in versions] == [3, "absent", None, {"n": 1}]
    assert result.stderr == ""


def test_as_json_it_is_one_array(url: str) -> None:
    written(url, "h2")

    result = run(url, "history", "h2", "k", "-o", "json")

    assert [version.get("value") for version in json.loads(result.stdout)] == [
        3,
        None,
        None,
        {"n": 1},
    ]


def test_as_a_table_it_says_when_and_by_whom(url: str) -> None:
    written(url, "h3")

    result = run(url, "history", "h3", "k", "-o", "table")

    head, _, *rows = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert head == ["revision", "time", "event", "value", "by"]
    assert [row[3] for row in rows] == ["created", "deleted", "updated", "created"]
    assert [row[4] for row in rows if row[3] != "deleted"] == ["3", "null", '{"n":']
    versions = [json.loads(line) for line in run(url, "history", "h3", "k").stdout.splitlines()]
    assert [row[-1] for row in rows] == [version["worker"] for version in versions]


def test_pages_follow_each_other(url: str) -> None:
    written(url, "h4")
    everything = [json.loads(line) for line in run(url, "history", "h4", "k").stdout.splitlines()]

    first = run(url, "history", "h4", "k", "-n", "2")
    before = first.stderr.split("--before ")[1].strip()
    second = run(url, "history", "h4", "k", "--before", before)

    told = [json.loads(line) for line in (first.stdout + second.stdout).splitlines()]
    assert told == everything
    assert len(first.stdout.splitlines()) == 2


def test_more_than_one_answer_holds_is_asked_for_in_parts(url: str) -> None:
    for number in range(4):
        run(url, "set", "h5", "k", "-s", f"{number}" * 400_000)

    result = run(url, "history", "h5", "k")

    assert [json.loads(line)["value"][0] for line in result.stdout.splitlines()] == [*"3210"]
    assert result.stderr == ""


def test_a_key_that_has_no_version_is_exit_code_3(url: str) -> None:
    result = run(url, "history", "h6", "none", "-o", "json")

    assert result.exit_code == 3
    assert result.stdout == ""
    error = json.loads(result.stderr)["error"]
    assert error["code"] == "NOT_FOUND"
    assert "'none'" in error["message"]


def test_it_says_how_far_the_log_reaches_back() -> None:
    with server("--in-memory", env=environment(III_STATE_HISTORY_BYTES="0")) as (_, address):
        written(address, "h7")
        kept = run(address, "history", "h7", "k")
        gone = run(address, "history", "h7", "other")

    assert [json.loads(line)["revision"] for line in kept.stdout.splitlines()] == [5]
    assert gone.exit_code == 3
    assert "just after revision 4" in gone.stderr


def test_without_a_server_it_cannot_connect() -> None:
    assert run("ws://127.0.0.1:1", "history", "s", "k").exit_code == 5
