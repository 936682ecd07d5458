from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_state.core.bindings import (
    CONFIG_MEMBERS,
    EVENT_NAMES,
    Binding,
    BindingConfig,
    BindingIndex,
    Retry,
    event_name,
)
from iii_state.core.changes import Change, Entry
from iii_state.core.event_view import EventView
from iii_state.core.filters import Filter
from iii_state.errors import InvalidRequest


def change_of(
    scope: str, key: str, after: bytes | None = b"1", before: bytes | None = None, cause: str = ""
) -> Change:
    replaced = None if before is None else Entry(before, 1, 1, 0, 0)
    entry = None if after is None else Entry(after, 2, 1, 0, 0)
    return Change(2, scope, key, replaced, entry, 0, cause=cause)


def binding_of(
    config: bytes | None = None, *, function: str = "f", namespace: str = "n"
) -> Binding:
    return Binding("b", function, namespace, BindingConfig.parse(config), config, None, 0)


def test_a_config_names_scope_key_and_condition() -> None:
    raw = b'{"scope":"a\\u00e4","key":"","condition_function_id":"c"}'
    assert BindingConfig.parse(raw) == BindingConfig("aä", "", "c")


@pytest.mark.parametrize("raw", [None, b"{}", b'{"scope":null,"key": null}'])
def test_what_is_absent_or_null_matches_everything(raw: bytes | None) -> None:
    assert BindingConfig.parse(raw) == BindingConfig()


def test_unknown_members_are_kept_by_name() -> None:
    config = BindingConfig.parse(b'{"scopes":"x","unknown":1e999,"key":"k"}')
    assert config == BindingConfig(key="k", unknown=("scopes", "unknown"))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"null", "found null, expected StateTriggerConfig (an object)"),
        (b"[]", "found array, expected StateTriggerConfig (an object)"),
        (b"true", "found boolean true, expected StateTriggerConfig (an object)"),
        (b'"x"', 'found string "x", expected StateTriggerConfig (an object)'),
        (b"1.50", "found number 1.50, expected StateTriggerConfig (an object)"),
        (b'{"scope":5}', "`scope` is number 5, expected a string or null"),
        (b'{"key":{}}', "`key` is object, expected a string or null"),
        (b'{"condition_function_id":[1]}', "`condition_function_id` is array, expected a"),
        (b'{"key":' + b"1" * 5000 + b"}", "`key` is number " + "1" * 100 + "..., expected"),
    ],
)
def test_a_config_of_a_wrong_type_is_refused_and_says_what_was_found(
    raw: bytes, reason: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        BindingConfig.parse(raw)
    assert refused.value.message.startswith("Failed to parse trigger config: " + reason)
    assert refused.value.wire_code == "trigger_registration_failed"


def parsed(**members: Any) -> BindingConfig:
    return BindingConfig.parse(msgspec.json.encode(members))


def test_a_config_selects_says_where_to_start_and_how_to_deliver() -> None:
    raw = b"""{"key_prefix":"o-","keys":["a","b","a"],"events":["deleted","expired"],
        "changed_only":true,"filters":{"input.key":{"$eq":"a"}},"from":7,"durable":"billing",
        "retry":{"max_attempts":3,"initial_ms":5,"max_ms":50},"timeout_ms":1000,
        "max_in_flight":8,"debounce_ms":250}"""
    assert BindingConfig.parse(raw) == BindingConfig(
        key_prefix="o-",
        keys=frozenset({"a", "b"}),
        events=frozenset({"deleted", "expired"}),
        changed_only=True,
        filters=Filter.parse(b'{"input.key":{"$eq":"a"}}'),
        start=7,
        durable="billing",
        retry=Retry(3, 5, 50),
        timeout_ms=1000,
        max_in_flight=8,
        debounce_ms=250,
    )


def test_every_member_may_be_null_which_is_as_if_left_out() -> None:
    assert parsed(**dict.fromkeys(CONFIG_MEMBERS)) == BindingConfig()


@pytest.mark.parametrize(
    ("value", "start", "is_initial"),
    [("now", None, False), ("initial", None, True), (0, 0, False), (2**63 - 1, 2**63 - 1, False)],
)
def test_a_binding_starts_now_with_what_is_there_or_after_a_revision(
    value: str | int, start: int | None, is_initial: bool
) -> None:
    config = parsed(**{"from": value})
    assert (config.start, config.is_initial) == (start, is_initial)


def test_what_retry_leaves_out_has_a_default() -> None:
    assert parsed(retry={}).retry == Retry(10, 200, 60_000)
    assert parsed(retry={"max_attempts": 1, "initial_ms": None}).retry == Retry(1, 200, 60_000)


def test_misspelt_members_are_named_with_what_may_have_been_meant() -> None:
    config = parsed(scopes="x", note=1, retry={"max_attempt": 3})
    assert config.unknown == ("scopes", "note", "retry.max_attempt")
    assert config.unknown_hint == (
        "'scopes' (did you mean 'scope'?), 'note', "
        "'retry.max_attempt' (did you mean 'retry.max_attempts'?)"
    )
    assert parsed(scope="x").unknown_hint == ""


def test_a_hint_is_bounded_whatever_was_sent() -> None:
    config = parsed(**{"x" * 10_000: 1}, **{str(number): 1 for number in range(1000)})
    assert len(config.unknown) == 1001
    assert config.unknown_hint == (
        f"'{'x' * 64}...', '0', '1', '2', '3', '4', '5', '6', and 993 more"
    )


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"key_prefix":1}', "`key_prefix` is number 1, expected a string or null"),
        (
            b'{"key_prefix":"' + b"k" * 1025 + b'"}',
            '`key_prefix` is string "' + "k" * 99 + "..., expected a string of 0 to 1024 char",
        ),
        (b'{"keys":"a"}', '`keys` is string "a", expected an array of 1 to 10000 strings, or null'),
        (b'{"keys":[]}', "`keys` is array, expected an array of 1 to 10000 strings, or null"),
        (b'{"keys":["a",1]}', "`keys` is array, expected an array of 1 to 10000 strings"),
        (
            b'{"keys":[' + b",".join([b'""'] * 10_001) + b"]}",
            "`keys` is array, expected an array of 1 to 10000 strings",
        ),
        (
            b'{"events":["state:created"]}',
            '`events` is ["state:created"], expected an array of some of "created", "updated", '
            '"deleted", "expired", or null',
        ),
        (b'{"events":"created"}', '`events` is "created", expected an array'),
        (b'{"events":[]}', "`events` is [], expected an array"),
        (b'{"changed_only":1}', "`changed_only` is number 1, expected true, false or null"),
        (b'{"filters":[]}', "`filters`: INVALID_FILTER: a filter is an object"),
        (
            b'{"filters":{"input.key":{"$is":1}}}',
            "`filters`: INVALID_FILTER: input.key: $is is no operator; there are $eq",
        ),
        (b'{"from":"start"}', '`from` is string "start", expected "now", "initial", a revision'),
        (b'{"from":-1}', "`from` is number -1, expected"),
        (b'{"from":1.5}', "`from` is number 1.5, expected"),
        (b'{"from":9223372036854775808}', "`from` is number 9223372036854775808, expected"),
        (b'{"durable":""}', '`durable` is string "", expected a string of 1 to 200 characters'),
        (b'{"durable":true}', "`durable` is boolean true, expected a string or null"),
        (b'{"retry":true}', "`retry` is boolean true, expected an object of max_attempts, initial"),
        (
            b'{"retry":{"max_attempts":0}}',
            "`retry.max_attempts` is number 0, expected an integer from 1 to 1000, or null",
        ),
        (
            b'{"retry":{"initial_ms":"1"}}',
            '`retry.initial_ms` is string "1", expected an integer from 1 to 86400000, or null',
        ),
        (b'{"retry":{"max_ms":1e3}}', "`retry.max_ms` is number 1e3, expected an integer from 1"),
        (
            b'{"retry":{"max_ms":100}}',
            "`retry.initial_ms` is 200, longer than `retry.max_ms`, which is 100; lower the first",
        ),
        (b'{"timeout_ms":0}', "`timeout_ms` is number 0, expected an integer from 1 to 86400000"),
        (b'{"max_in_flight":4097}', "`max_in_flight` is number 4097, expected an integer from 1 "),
        (b'{"debounce_ms":3600001}', "`debounce_ms` is number 3600001, expected an integer from"),
    ],
)
def test_a_member_that_is_wrong_or_out_of_range_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        BindingConfig.parse(raw)
    assert refused.value.message.startswith("Failed to parse trigger config: " + reason)
    assert refused.value.wire_code == "trigger_registration_failed"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (change_of("s", "k"), "created"),
        (change_of("s", "k", b"1", b"1"), "updated"),
        (change_of("s", "k", b"1", b"null"), "updated"),
        (change_of("s", "k", None, b"1"), "deleted"),
        (change_of("s", "k", None), "deleted"),
        (change_of("s", "k", None, b"1", "expired"), "expired"),
        (change_of("s", "k", b"1", None, "expired"), "created"),
    ],
)
def test_an_expiry_is_no_delete(change: Change, name: str) -> None:
    assert event_name(change) == name
    index: BindingIndex[str] = BindingIndex()
    for place, one in enumerate(EVENT_NAMES):
        index.add(place, parsed(events=[one]), one)
    assert index.match(change) == [name]


@pytest.mark.parametrize(
    ("before", "after", "matches"),
    [
        (b"1", b"1", False),
        (b"1", b"1.0", False),
        (b'{"a":1,"b":2}', b'{"b":2, "a":1}', False),
        (b"1", b"2", True),
        (b"1", b"true", True),
        (None, b"null", True),
        (b"null", None, True),
        (None, None, False),
    ],
)
def test_changed_only_wants_another_value_or_none(
    before: bytes | None, after: bytes | None, matches: bool
) -> None:
    index: BindingIndex[str] = BindingIndex()
    index.add(0, parsed(changed_only=True), "a")
    index.add(1, parsed(changed_only=True, scope="s"), "b")
    assert index.match(change_of("s", "k", after, before)) == (["a", "b"] if matches else [])


def test_filters_and_changed_only_hold_both() -> None:
    index: BindingIndex[str] = BindingIndex()
    index.add(0, parsed(filters={"input.new_value.n": {"$gt": 1}}, changed_only=True), "x")
    assert index.match(change_of("s", "k", b'{"n":2}')) == ["x"]
    assert index.match(change_of("s", "k", b'{"n":1}')) == []
    assert index.match(change_of("s", "k", b'{"n":2}', b'{"n":2}')) == []


def test_a_binding_continues_one_that_selects_the_same_for_the_same_function() -> None:
    earlier = binding_of(b'{"scope":"s","key":"k"}')
    assert binding_of(b'{"key": "k", "scope": "s"}').continues(earlier)
    assert not binding_of(b'{"scope":"s"}').continues(earlier)
    assert not binding_of(b'{"scope":"s","key":"k"}', function="g").continues(earlier)
    assert not binding_of(b'{"scope":"s","key":"k"}', namespace="m").continues(earlier)


def test_matches_come_in_the_order_of_their_places() -> None:
    index: BindingIndex[str] = BindingIndex()
    index.add(3, BindingConfig(), "any")
    index.add(1, BindingConfig(scope="s"), "scope")
    index.add(2, BindingConfig(scope="s", key="k"), "exact")
    index.add(0, BindingConfig(key="k"), "key")
    index.add(4, BindingConfig(scope="s"), "scope again")
    assert index.match(change_of("s", "k")) == ["key", "scope", "exact", "any", "scope again"]
    assert index.match(change_of("", "")) == ["any"]
    assert sorted(index) == ["any", "exact", "key", "scope", "scope again"]


def test_adding_at_a_place_replaces_what_is_there() -> None:
    index: BindingIndex[str] = BindingIndex()
    index.add(0, BindingConfig(scope="a"), "old")
    index.add(0, BindingConfig(scope="b"), "new")
    assert (len(index), index.match(change_of("a", "k"))) == (1, [])
    assert index.match(change_of("b", "k")) == ["new"]


def test_removing_what_is_not_there_does_nothing() -> None:
    index: BindingIndex[str] = BindingIndex()
    index.remove(5)
    assert len(index) == 0


def test_a_prefix_selects_keys_of_one_scope_or_of_any() -> None:
    index: BindingIndex[str] = BindingIndex()
    for place, prefix in enumerate(["", "o", "o-", "o-1", "p-", "o-", "o-12"]):
        index.add(place, parsed(key_prefix=prefix), prefix or "all")
    index.add(9, parsed(scope="s", key_prefix="o-1"), "in s")
    assert index.match(change_of("s", "o-1")) == ["all", "o", "o-", "o-1", "o-", "in s"]
    assert index.match(change_of("t", "o-1")) == ["all", "o", "o-", "o-1", "o-"]
    assert index.match(change_of("s", "")) == ["all"]
    index.remove(2)
    assert index.match(change_of("t", "o-")) == ["all", "o", "o-"]
    index.remove(5)
    index.remove(3)
    assert index.match(change_of("t", "o-1")) == ["all", "o"]
    assert index.match(change_of("t", "p-1")) == ["all", "p-"]
    assert index.match(change_of("t", "o-12")) == ["all", "o", "o-12"]
    for place in range(10):
        index.remove(place)
    assert [*index] == index.match(change_of("s", "o-1")) == []


def test_key_keys_and_prefix_hold_all_together() -> None:
    index: BindingIndex[str] = BindingIndex()
    index.add(0, parsed(scope="s", keys=["a", "ab", "b"], key_prefix="a"), "keys")
    index.add(1, parsed(key="ab", key_prefix="a"), "key")
    index.add(2, parsed(key="a", keys=["b"]), "never")
    index.add(3, parsed(key="a", keys=["b"]), "never")
    assert index.match(change_of("s", "ab")) == ["keys", "key"]
    assert index.match(change_of("s", "a")) == ["keys"]
    assert index.match(change_of("s", "b")) == index.match(change_of("t", "a")) == []
    for place in (2, 3, 0, 1):
        index.remove(place)
    assert len(index) == 0


names = st.sampled_from(["", "a", "ab", "abc", "b"])
filters = st.sampled_from(
    [Filter.parse(b'{"input.new_value":{"$gt":1}}'), Filter.parse(b'{"input.key":{"$ne":"a"}}')]
)
configs = st.builds(
    BindingConfig,
    scope=st.none() | names,
    key=st.none() | st.none() | names,
    key_prefix=st.none() | names,
    keys=st.none() | st.none() | st.frozensets(names, min_size=1),
    events=st.none() | st.frozensets(st.sampled_from(EVENT_NAMES), min_size=1),
    changed_only=st.booleans(),
    filters=st.none() | filters,
)
values = st.none() | st.sampled_from([b"1", b"1.0", b"2"])
changes = st.builds(change_of, names, names, values, values, st.sampled_from(["", "expired"]))


def selects(config: BindingConfig, change: Change) -> bool:
    """What a config means, asked one by one."""
    as_number = [None if value is None else float(value) for value in (change.before, change.after)]
    return (
        config.scope in (None, change.scope)
        and config.key in (None, change.key)
        and (config.keys is None or change.key in config.keys)
        and (config.key_prefix is None or change.key.startswith(config.key_prefix))
        and (config.events is None or event_name(change) in config.events)
        and (not config.changed_only or as_number[0] != as_number[1])
        and (config.filters is None or config.filters.matches(EventView(change)))
    )


@given(st.lists(st.tuples(st.integers(0, 7), st.none() | configs)), st.lists(changes))
def test_the_index_finds_what_a_scan_finds(
    steps: list[tuple[int, BindingConfig | None]], changes: list[Change]
) -> None:
    index: BindingIndex[int] = BindingIndex()
    present: dict[int, BindingConfig] = {}
    for place, config in steps:
        if config is None:
            index.remove(place)
            present.pop(place, None)
        else:
            index.add(place, config, place)
            present[place] = config
    for change in changes:
        expected = [place for place in sorted(present) if selects(present[place], change)]
        assert index.match(change) == expected
    assert sorted(index) == sorted(present)
    for place in present:
        index.remove(place)
    assert (len(index), [index.match(change) for change in changes]) == (0, [[]] * len(changes))


def steps_of(index: BindingIndex[int], change: Change) -> int:
    """How many lines of Python a match runs, in all that it calls."""
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        found = index.match(change)
    finally:
        sys.settrace(before)
    assert found == []
    return steps


def crowd(count: int) -> BindingIndex[int]:
    """Bindings of every kind, none of which wants to hear of an update of key `k-1` in `s`."""
    index: BindingIndex[int] = BindingIndex()
    filter = {"input.key": {"$eq": "x"}}
    for number in range(count):
        configs: list[dict[str, Any]] = [
            {"scope": f"s{number}"},
            {"key": f"k{number}"},
            {"scope": "s", "key": f"k{number}"},
            {"scope": "s", "key_prefix": f"k-{number:05}"},
            {"key_prefix": f"l-{number:05}"},
            {"scope": "s", "keys": [f"m{number}", f"n{number}"]},
            {"scope": "s", "events": ["created", "deleted"]},
            {"events": ["expired"], "changed_only": True},
            {"scope": f"s{number}", "filters": filter, "changed_only": True},
            {"scope": "s", "keys": ["a"], "key_prefix": "b"},
        ]
        index.add(number, parsed(**configs[number % len(configs)]), number)
    return index


def test_ten_thousand_bindings_of_other_changes_cost_a_change_no_step_more_than_ten() -> None:
    change = change_of("s", "k-1", b"1", b"1")
    few, many = crowd(10), crowd(10_000)
    assert (len(few), len(many)) == (10, 10_000)
    assert steps_of(many, change) == steps_of(few, change) < 60
