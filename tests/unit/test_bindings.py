from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_state.core.bindings import Binding, BindingConfig, BindingIndex
from iii_state.core.changes import Change
from iii_state.errors import InvalidRequest


def change_of(scope: str, key: str) -> Change:
    return Change(1, scope, key, None, b"1", 0, 1, 0, 0)


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


names = st.sampled_from(["", "a", "b"])
configs = st.builds(BindingConfig, scope=st.none() | names, key=st.none() | names)


@given(st.lists(st.tuples(st.integers(0, 7), st.none() | configs)), names, names)
def test_the_index_finds_what_a_scan_finds(
    steps: list[tuple[int, BindingConfig | None]], scope: str, key: str
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
    expected = [
        place
        for place, config in sorted(present.items(), key=lambda pair: pair[0])
        if config.scope in (None, scope) and config.key in (None, key)
    ]
    assert index.match(change_of(scope, key)) == expected
    assert sorted(index) == sorted(present)
