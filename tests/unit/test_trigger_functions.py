"""`state::triggers` and `state::dead_letters`: how reactions fare, and what to do about it."""

from __future__ import annotations

from typing import Any

import pytest
from durable_bench import Handler
from engine_bench import Client, EngineBench, running_engine

from iii_state.engine import trigger_schemas

PLAIN = {"scope": "s"}


async def write(bench: EngineBench, client: Client, *keys: str, value: Any = 1) -> None:
    for key in keys:
        client.ask("state::set", {"scope": "s", "key": key, "value": value})
    await bench.turn()


async def with_letters(bench: EngineBench, count: int, value: Any = 1) -> Handler:
    """A plain binding that failed for so many keys."""
    handler = Handler(bench.client("w"))
    handler.client.bind("t", "f", PLAIN)
    await write(bench, handler.client, *(f"k{number}" for number in range(count)), value=value)
    handler.fail_all()
    await bench.turn()
    return handler


def letters_of(client: Client, **request: Any) -> list[str]:
    told = client.ask("state::dead_letters", request)
    return [letter["id"] for letter in told["dead_letters"]]


@pytest.mark.parametrize(
    ("name", "request_", "said"),
    [
        (
            "triggers",
            {"action": "shw", "name": "n"},
            "`action` is 'shw', expected one of delete, list, pause, resume, show",
        ),
        (
            "dead_letters",
            {"action": "x" * 70_000},
            f"`action` is '{'x' * 200}...', expected one of discard, list, redrive",
        ),
        (
            "changes",
            {"after": 0, "events": ["created", "made"]},
            "`events[1]` is 'made', expected one of created, deleted, expired, updated",
        ),
    ],
)
async def test_a_word_that_is_not_allowed_is_told_with_those_that_are(
    name: str, request_: dict[str, Any], said: str
) -> None:
    async with running_engine() as bench:
        client = bench.client()
        error = client.answer_to(client.call(f"state::{name}", request_))["error"]

    assert error == {
        "code": "deserialization_error",
        "message": f"Invalid request for state::{name}: {said}",
    }


@pytest.mark.parametrize("member", ["name", "id"])
async def test_a_trigger_that_is_not_there_is_named_shortly(member: str) -> None:
    async with running_engine() as bench:
        client = bench.client()
        request = {"action": "show", member: "n" * 70_000}
        error = client.answer_to(client.call("state::triggers", request))["error"]

    shown = f"'{'n' * 200}...'"
    assert error["code"] == "NOT_FOUND"
    assert f"no state trigger with the {member} {shown}; `list`" in error["message"]


async def test_the_list_tells_how_each_trigger_fares() -> None:
    async with running_engine() as bench:
        handler = await with_letters(bench, 1)
        handler.client.bind("b", "missing", {"durable": "d"})
        await write(bench, handler.client, "x")
        plain, durable = handler.client.ask("state::triggers", {})["triggers"]
        asked = handler.client.ask("state::triggers", {"action": "list"})

    counters = dict.fromkeys(
        ("matched", "delivered", "skipped", "failed", "coalesced", "retried", "redriven", "lost"), 0
    )
    assert plain == {
        "id": "t",
        "durable": False,
        "function_id": "f",
        "namespace": "default",
        "config": PLAIN,
        "status": "live",
        "paused": False,
        "cursor": 1,
        "lag": 1,
        "in_flight": 1,
        "waiting": 0,
        "bound_by": 1,
        "dead_letters": 1,
        "counters": {**counters, "matched": 2, "failed": 1},
        "last_error": {"code": "invocation_failed", "message": "no", "revision": 1},
    }
    assert (durable["id"], durable["name"], durable["durable"]) == ("b", "d", True)
    assert asked["triggers"] == [plain, durable]


async def test_members_of_a_config_that_mean_nothing_are_told_with_what_may_be_meant() -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.bind("plain", "f", {"scopes": "s", "note": 1})
        client.bind("b", "f", {"durable": "d", "retry": {"attempts": 2}})
        client.bind("right", "f", {"scope": "s"})
        told = [
            each.get("unknown_members") for each in client.ask("state::triggers", {})["triggers"]
        ]
        shown = client.ask("state::triggers", {"action": "show", "name": "d"})["trigger"]
        status = [
            client.ask("engine::registered-triggers::info", {"id": id})["status"]
            for id in ("plain", "right")
        ]

    assert told == [
        "'scopes' (did you mean 'scope'?), 'note'",
        "'retry.attempts' (did you mean 'retry.max_attempts'?)",
        None,
    ]
    assert shown["unknown_members"] == told[1]
    assert [each["unknown_members"] for each in status] == [told[0], None]


async def test_one_is_shown_paused_and_resumed_by_its_name_or_id() -> None:
    async with running_engine() as bench:
        handler = Handler(bench.client("w"))
        handler.client.bind("b", "f", {"durable": "d"})
        paused = handler.client.ask("state::triggers", {"action": "pause", "id": "b"})
        await write(bench, handler.client, "x")
        assert handler.take() == []
        resumed = handler.client.ask("state::triggers", {"action": "resume", "name": "d"})
        await bench.turn()
        assert handler.take() == [("x", 1)]
        shown = handler.client.ask("state::triggers", {"action": "show", "name": "d"})
    statuses = [each["trigger"]["status"] for each in (paused, resumed, shown)]
    assert statuses[0] == "paused"
    assert "paused" not in statuses[1:]


async def test_a_deleted_trigger_is_bound_no_more() -> None:
    async with running_engine() as bench:
        handler = Handler(bench.client("w"))
        handler.client.bind("b", "f", {"durable": "d"})
        assert handler.client.ask("state::triggers", {"action": "delete", "id": "b"}) == {
            "deleted": True
        }
        await write(bench, handler.client, "x")
        assert handler.take() == []
        assert handler.client.ask("engine::registered-triggers::list", {}) == {
            "registered_triggers": []
        }
        handler.client.bind("b", "f", {"durable": "d"})
        await write(bench, handler.client, "y")
        assert handler.take() == [("y", 1)]


@pytest.mark.parametrize(
    ("function", "request_", "code"),
    [
        ("triggers", {"action": "show"}, "deserialization_error"),
        ("triggers", {"action": "show", "id": "b", "name": "d"}, "deserialization_error"),
        ("triggers", {"action": "show", "name": "b"}, "NOT_FOUND"),
        ("triggers", {"action": "pause", "id": "d"}, "NOT_FOUND"),
        ("triggers", {"action": "delete", "id": "t"}, "deserialization_error"),
        ("triggers", {"action": "rename"}, "deserialization_error"),
        ("dead_letters", {"action": "redrive"}, "deserialization_error"),
        ("dead_letters", {"action": "discard", "all": False}, "deserialization_error"),
        ("dead_letters", {"cursor": "x"}, "deserialization_error"),
        ("dead_letters", {"limit": 0}, "deserialization_error"),
    ],
)
async def test_what_is_asked_for_has_to_make_sense(
    function: str, request_: dict[str, Any], code: str
) -> None:
    async with running_engine() as bench:
        client = bench.client("w")
        client.bind("b", "f", {"durable": "d"})
        client.bind("t", "f", {})
        assert client.error(f"state::{function}", request_) == code


async def test_letters_come_in_pages() -> None:
    async with running_engine() as bench:
        handler = await with_letters(bench, 5)
        first = handler.client.ask("state::dead_letters", {"limit": 2})
        second = handler.client.ask(
            "state::dead_letters", {"limit": 2, "cursor": first["next_cursor"]}
        )
        third = handler.client.ask(
            "state::dead_letters", {"limit": 2, "cursor": second["next_cursor"]}
        )
        assert letters_of(handler.client, name="t") == [f"t@{number}" for number in range(1, 6)]
        assert letters_of(handler.client, name="u") == []
        assert letters_of(handler.client, id="t@3") == ["t@3"]
    pages = [[each["id"] for each in page["dead_letters"]] for page in (first, second, third)]
    assert pages == [["t@1", "t@2"], ["t@3", "t@4"], ["t@5"]]
    assert "next_cursor" not in third


async def test_a_page_of_letters_is_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_schemas, "ANSWER_BYTES", 4000)
    async with running_engine() as bench:
        handler = await with_letters(bench, 3, value="x" * 2000)
        first = handler.client.ask("state::dead_letters", {})
        rest = handler.client.ask("state::dead_letters", {"cursor": first["next_cursor"]})
    assert [each["id"] for each in first["dead_letters"]] == ["t@1"]
    assert [each["id"] for each in rest["dead_letters"]] == ["t@2"]


async def test_a_letter_too_large_for_the_client_comes_without_the_values() -> None:
    async with running_engine() as bench:
        handler = await with_letters(bench, 1, value="x" * 2000)
        handler.client.worker.message_bytes_max = 1500
        told = handler.client.ask("state::dead_letters", {})
    [letter] = told["dead_letters"]
    assert letter["event"]["values_omitted"]
    assert letter["event"]["new_value"] is None


async def test_letters_are_sent_again_or_discarded_by_id_name_or_all() -> None:
    async with running_engine() as bench:
        handler = await with_letters(bench, 4)
        asked = handler.client
        assert asked.ask("state::dead_letters", {"action": "redrive", "id": "t@2"}) == {
            "redriven": 1
        }
        await bench.turn()
        assert handler.take() == [("k1", 2)]
        assert asked.ask("state::dead_letters", {"action": "discard", "name": "u"}) == {
            "discarded": 0
        }
        assert asked.ask("state::dead_letters", {"action": "discard", "id": "t@1"}) == {
            "discarded": 1
        }
        assert asked.ask("state::dead_letters", {"action": "redrive", "all": True}) == {
            "redriven": 2
        }
        assert letters_of(asked) == []
