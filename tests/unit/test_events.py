from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_state.core.changes import Change, Entry, Origin
from iii_state.core.events import event_id, event_payload

texts = st.text(st.characters(exclude_categories=["Cs"]))


def change_of(
    before: bytes | None = None,
    after: bytes | None = b"1",
    *,
    scope: str = "s",
    key: str = "k",
    origin: Origin | None = None,
    cause: str = "",
) -> Change:
    return Change(
        revision=7,
        scope=scope,
        key=key,
        replaced=None if before is None else Entry(before, 3, 3, 1_000, 1_000),
        entry=None if after is None else Entry(after, 7, 3, 1_000, 2_000),
        timestamp_ms=2_000,
        origin=origin if origin is not None else Origin(),
        cause=cause,
    )


def decoded(change: Change, attempt: int = 1, **options: bool) -> dict[str, Any]:
    event: dict[str, Any] = msgspec.json.decode(event_payload(change, attempt, **options))
    return event


def test_an_event_has_the_six_members_of_the_original_and_ours() -> None:
    assert decoded(change_of(b"null", b'{"a":1}'), 2) == {
        "type": "state",
        "event_type": "state:updated",
        "scope": "s",
        "key": "k",
        "old_value": None,
        "new_value": {"a": 1},
        "event_id": "2000-7",
        "revision": 7,
        "timestamp_ms": 2_000,
        "attempt": 2,
        "depth": 0,
    }


@pytest.mark.parametrize(
    ("before", "after", "event_type"),
    [
        (None, b"1", "state:created"),
        (b"null", b"1", "state:updated"),
        (b"1", None, "state:deleted"),
        (None, None, "state:deleted"),
    ],
)
def test_the_event_type_says_whether_the_key_was_there(
    before: bytes | None, after: bytes | None, event_type: str
) -> None:
    event = decoded(change_of(before, after))
    assert event["event_type"] == event_type
    assert {"old_value", "new_value"} <= event.keys()


def test_values_are_spliced_in_as_they_were_written() -> None:
    payload = event_payload(change_of(b"1.10", b'{"b": 1e400, "a":  []}'), 1)
    assert b'"old_value":1.10,"new_value":{"b": 1e400, "a":  []},' in payload


def test_the_writer_its_depth_and_the_cause_are_told_when_known() -> None:
    event = decoded(change_of(origin=Origin("w-1", "f", 3), cause="expired"))
    assert (event["worker"], event["depth"], event["cause"]) == ("w-1", 3, "expired")


def test_the_event_id_is_the_same_on_every_attempt() -> None:
    change = change_of()
    assert decoded(change, 1)["event_id"] == decoded(change, 9)["event_id"] == event_id(change)


def test_values_can_be_left_out_and_then_the_event_says_so() -> None:
    event = decoded(change_of(b"1", b"2"), values_omitted=True)
    assert (event["old_value"], event["new_value"]) == (None, None)
    assert event["values_omitted"] is True
    assert event["event_type"] == "state:updated"


@given(texts, texts, texts)
def test_any_scope_key_and_writer_come_back_as_they_are(scope: str, key: str, worker: str) -> None:
    event = decoded(change_of(scope=scope, key=key, origin=Origin(worker)))
    assert (event["scope"], event["key"], event.get("worker", "")) == (scope, key, worker)
