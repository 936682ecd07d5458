from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_state.core.changes import Change, Entry, Origin
from iii_state.core.event_view import EventView
from iii_state.core.events import event_payload
from iii_state.core.filters import INVALID_FILTER, Filter
from iii_state.errors import InvalidRequest

WRITER = Origin("w")


def entry_of(value: bytes | None, revision: int) -> Entry | None:
    return None if value is None else Entry(value, revision, 1, 0, 0)


def change_of(
    after: bytes | None = b"1",
    before: bytes | None = None,
    *,
    scope: str = "s",
    key: str = "k",
    origin: Origin = WRITER,
    cause: str = "",
) -> Change:
    replaced, entry = entry_of(before, 6), entry_of(after, 7)
    return Change(7, scope, key, replaced, entry, 1234, origin, cause)


def parse(filter: Any) -> Filter:
    return Filter.parse(filter if isinstance(filter, bytes) else json.dumps(filter).encode())


def holds(filter: Any, change: Change) -> bool:
    return parse(filter).matches(EventView(change))


def asked(operators: dict[str, Any], value: str) -> bool:
    """Whether operators hold for a new value, given as JSON."""
    return holds({"input.new_value": operators}, change_of(value.encode()))


def absent(operators: dict[str, Any]) -> bool:
    return holds({"input.new_value.no.such": operators}, change_of(b"{}"))


def test_a_filter_without_clauses_matches_everything() -> None:
    assert holds({}, change_of())


def test_clauses_hold_all_together() -> None:
    filter = {"input.scope": {"$eq": "s"}, "input.key": {"$eq": "k"}}
    assert holds(filter, change_of())
    assert not holds(filter, change_of(scope="t"))
    assert not holds(filter, change_of(key="l"))


@pytest.mark.parametrize(
    ("operators", "value", "expected"),
    [
        ({"$eq": 1}, "1", True),
        ({"$eq": 1}, "1.0", True),
        ({"$eq": 1}, "10e-1", True),
        ({"$eq": 1}, "2", False),
        ({"$eq": 1}, "true", False),
        ({"$eq": 1}, '"1"', False),
        ({"$eq": 0}, "-0", True),
        ({"$eq": 2**53}, str(2**53 + 1), True),  # the same double
        ({"$eq": 2**53}, "1e400", False),
        ({"$eq": True}, "true", True),
        ({"$eq": True}, "1", False),
        ({"$eq": False}, "false", True),
        ({"$eq": False}, "0", False),
        ({"$eq": None}, "null", True),
        ({"$eq": None}, "0", False),
        ({"$eq": "ä"}, '"\\u00e4"', True),
        ({"$eq": "ä"}, '"a"', False),
        ({"$eq": ""}, "null", False),
        ({"$eq": [1, "a"]}, '[1.0, "a"]', True),
        ({"$eq": [1, "a"]}, '["a", 1]', False),
        ({"$eq": [1]}, "[1,1]", False),
        ({"$eq": []}, "{}", False),
        ({"$eq": []}, "[]", True),
        ({"$eq": {"a": 1, "b": [None]}}, '{"b": [null], "a": 1}', True),
        ({"$eq": {"a": 1}}, '{"a": 2}', False),
        ({"$eq": {"a": 1}}, '{"a": 1, "b": 1}', False),
        ({"$eq": {"a": 1}}, "[]", False),
        ({"$ne": 1}, "2", True),
        ({"$ne": 1}, "1.0", False),
        ({"$in": []}, "1", False),
        ({"$in": ["a", 1]}, "1.0", True),
        ({"$in": ["a", 1]}, '"a"', True),
        ({"$in": ["a", 1]}, '"1"', False),
        ({"$in": ["a", 1]}, "true", False),
        ({"$in": [True]}, "1", False),
        ({"$in": [True, None]}, "null", True),
        ({"$in": [[1], {"a": 2}]}, '{"a":2}', True),
        ({"$nin": ["a", 1]}, "1", False),
        ({"$nin": ["a", 1]}, "2", True),
        ({"$gt": 1}, "1.5", True),
        ({"$gt": 1}, "1", False),
        ({"$gt": 1}, "1e999", True),
        ({"$gt": 1}, '"2"', False),
        ({"$gt": 1}, "true", False),
        ({"$gte": 1}, "1", True),
        ({"$lt": 1}, "-1e999", True),
        ({"$lt": 1}, "1", False),
        ({"$lte": 1.5}, "1.5", True),
        ({"$gt": "b"}, '"c"', True),
        ({"$gt": "b"}, '"B"', False),
        ({"$gt": "b"}, "5", False),
        ({"$lt": "\U00010000"}, '"\\uffff"', True),  # code points, not UTF-16 units
        ({"$exists": True}, "null", True),
        ({"$exists": False}, "null", False),
        ({"$prefix": "ab"}, '"abc"', True),
        ({"$prefix": "ab"}, '"a"', False),
        ({"$prefix": ""}, '""', True),
        ({"$prefix": ""}, '["a"]', False),
        ({"$any": {}}, "[null]", True),
        ({"$any": {}}, "[]", False),
        ({"$any": {}}, '{"a":1}', False),
        ({"$any": {"$gt": 1, "$lt": 3}}, "[0, 2]", True),
        ({"$any": {"$gt": 1, "$lt": 3}}, "[1, 3]", False),  # one element for both
        ({"$any": {"$any": {"$eq": 1}}}, "[[0],[1]]", True),
        ({"$any": {"$any": {"$eq": 1}}}, "[0, 1]", False),
        ({"$any": {"@.a": {"$eq": 1}, "@.b": {"$eq": 2}}}, '[{"a":1,"b":2}]', True),
        ({"$any": {"@.a": {"$eq": 1}, "@.b": {"$eq": 2}}}, '[{"a":1},{"b":2}]', False),
        ({"$any": {"@": {"$eq": 1}}}, "[1]", True),
        ({"$any": {"@.t": {"$any": {"@": {"$eq": 1}}}}}, '[{"t":[0,1]}]', True),
        ({"$any": {"$not": {"@": {"$eq": 1}}}}, "[1]", False),
        ({"$gt": 1, "$lt": 3}, "2", True),
        ({"$gt": 1, "$lt": 3}, "3", False),
    ],
)
def test_operators_ask_a_value(operators: dict[str, Any], value: str, expected: bool) -> None:
    assert asked(operators, value) is expected


@pytest.mark.parametrize(
    ("operators", "expected"),
    [
        ({"$eq": None}, False),
        ({"$ne": None}, True),
        ({"$in": [None]}, False),
        ({"$nin": [None]}, True),
        ({"$gt": 0}, False),
        ({"$gte": ""}, False),
        ({"$lt": 0}, False),
        ({"$lte": 0}, False),
        ({"$exists": True}, False),
        ({"$exists": False}, True),
        ({"$prefix": ""}, False),
        ({"$any": {}}, False),
    ],
)
def test_operators_ask_what_is_absent(operators: dict[str, Any], expected: bool) -> None:
    assert absent(operators) is expected


def test_or_and_and_not_join_filters() -> None:
    scope, key = {"input.scope": {"$eq": "s"}}, {"input.key": {"$eq": "k"}}
    for change in (change_of(), change_of(key="l"), change_of(scope="t", key="l")):
        in_scope, of_key = change.scope == "s", change.key == "k"
        assert holds({"$and": [scope, key]}, change) is (in_scope and of_key)
        assert holds({"$or": [scope, key]}, change) is (in_scope or of_key)
        assert holds({"$not": scope}, change) is (not in_scope)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("input.new_value.a", b'{"":[1,{"x.y":2}],"1":3}'),
        ("input.new_value.a.1", b"3"),
        ("input.new_value.b", b"[[0,7]]"),
        ("input.new_value.b.0.1", b"7"),
        ("input.new_value.b.0.2", None),
        ("input.new_value.b.00", None),
        ("input.new_value.b.-1", None),
        ("input.new_value.b.\u0660", None),
        ("input.new_value.b." + "9" * 5000, None),
        ("input.new_value.b.0.1.c", None),
        ("input.new_value.d\\.e\\\\f", b"4"),
        ("input.new_value.d.e", None),
        ("input.old_value", b"null"),
        ("input.old_value.x", None),
        ("input.output", None),
        ("output", None),
        ("error.x", None),
        ("caller.x.y", None),
        ("metadata", None),
    ],
)
def test_a_path_leads_through_members_and_elements(path: str, expected: bytes | None) -> None:
    value = b'{"a":{"":[1,{"x.y":2}],"1":3},"b":[[0,7]],"d.e\\\\f":4}'
    change = change_of(value)
    assert holds({path: {"$exists": True}}, change) is (expected is not None)
    if expected is not None:
        assert holds({path: {"$eq": json.loads(expected)}}, change)


@pytest.mark.parametrize(
    "change",
    [
        change_of(b'{"a":[1]}', b"null", scope="ä", key="", origin=Origin("w", "f", 3)),
        change_of(None, b'"x"', cause="expired", origin=Origin()),
        change_of(b"false"),
    ],
)
def test_a_filter_sees_the_event_as_a_handler_does(change: Change) -> None:
    event = json.loads(event_payload(change, 1))
    for name, value in event.items():
        assert holds({f"input.{name}": {"$eq": value}}, change)
    assert holds({"input": {"$eq": event}}, change)
    for name in {"worker", "cause", "values_omitted", "x"} - event.keys():
        assert holds({f"input.{name}": {"$exists": False}}, change)


@pytest.mark.parametrize(
    ("filter", "reason"),
    [
        (b"[]", "a filter is an object"),
        (b"null", "a filter is an object"),
        (b'{"$not":1}', "a filter is an object"),
        (b'{"input.key":', "it cannot be read as JSON"),
        (b'{"input.key":{"$eq":NaN}}', "it cannot be read as JSON"),
        (b'{"input.key":{"$eq":"\\ud800"}}', "it cannot be read as JSON"),
        ({"$and": []}, "$and takes an array of one or more filters"),
        ({"$or": {}}, "$or takes an array of one or more filters"),
        ({"": {"$eq": 1}}, "a path is names with dots"),
        ({"input.": {"$eq": 1}}, "input.: a path is names with dots"),
        ({"input..a": {"$eq": 1}}, "input..a: a path is names with dots"),
        ({".input": {"$eq": 1}}, ".input: a path is names with dots"),
        ({"input.a\\n": {"$eq": 1}}, "input.a\\n: a path is names with dots"),
        ({"input.a\\": {"$eq": 1}}, "input.a\\: a path is names with dots"),
        ({"new_value": {"$eq": 1}}, "new_value: a path begins with one of caller, error, input, m"),
        ({"@": {"$eq": 1}}, "@: a path begins with one of"),
        ({"$nor": []}, "$nor: a path begins with one of"),
        ({"x" * 500: {"$eq": 1}}, "x" * 100 + "...: a path begins"),
        ({"input.a": {}}, 'input.a: expected one or more operators, such as {"$eq": 1}'),
        ({"input.a": 5}, "input.a: expected one or more operators"),
        ({"input.a": {"$eqq": 5}}, "input.a: $eqq is no operator; there are $eq, $ne, $in, $nin"),
        ({"input.a": {"b": 5}}, "input.a: b is no operator"),
        ({"input.a": {"$in": 5}}, "input.a: $in: expected an array of at most 256 values"),
        ({"input.a": {"$gt": None}}, "input.a: $gt: expected a number or a string"),
        ({"input.a": {"$lte": True}}, "input.a: $lte: expected a number or a string"),
        ({"input.a": {"$exists": 1}}, "input.a: $exists: expected true or false"),
        ({"input.a": {"$prefix": 1}}, "input.a: $prefix: expected a string"),
        ({"input.a": {"$any": 1}}, "a filter is an object"),
        ({"input.a": {"$any": {"input.b": {"$eq": 1}}}}, "input.b: a path begins with one of @"),
        ({"input.a": {"$any": {"$eq": 1, "@": {"$eq": 1}}}}, "input.a $any: @ is no operator"),
    ],
)
def test_what_is_not_in_the_language_is_refused(filter: Any, reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(filter)
    assert refused.value.message.startswith(reason)
    assert refused.value.wire_code == INVALID_FILTER


def nested(levels: int, inner: Any, wrap: str) -> Any:
    for _ in range(levels):
        inner = {wrap: inner if wrap == "$not" else [inner]}
    return inner


def arrays(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


LEAF = {"input.key": {"$eq": "k"}}


def many(operator: str, count: int) -> dict[str, Any]:
    return {f"input.{at}": {operator: {} if operator == "$any" else 1} for at in range(count)}


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        pytest.param(nested(7, LEAF, "$not"), nested(8, LEAF, "$not"), id="depth by $not"),
        pytest.param(nested(7, LEAF, "$or"), nested(8, LEAF, "$or"), id="depth by $or"),
        pytest.param(
            nested(6, {"input.a": {"$any": {"$eq": 1}}}, "$not"),
            nested(7, {"input.a": {"$any": {"$eq": 1}}}, "$not"),
            id="depth by $any of operators",
        ),
        pytest.param(
            nested(6, {"input.a": {"$any": {}}}, "$not"),
            nested(7, {"input.a": {"$any": {}}}, "$not"),
            id="depth by $any of a filter",
        ),
        pytest.param(nested(59, LEAF, "$and"), nested(60, LEAF, "$and"), id="nesting, $and free"),
        pytest.param(many("$eq", 64), many("$eq", 65), id="nodes"),
        pytest.param(many("$any", 64), many("$any", 65), id="nodes, $any"),
        pytest.param({"$not": many("$eq", 63)}, {"$not": many("$eq", 64)}, id="nodes, $not"),
        pytest.param({"$or": [many("$eq", 63)]}, {"$or": [many("$eq", 64)]}, id="nodes, $or"),
        pytest.param({"$and": [many("$eq", 64)]}, {"$and": [many("$eq", 65)]}, id="nodes, $and"),
        pytest.param(
            {"input" + ".a" * 16: {"$eq": 1}}, {"input" + ".a" * 17: {"$eq": 1}}, id="segments"
        ),
        pytest.param(
            {"input.a": {"$any": {"@" + ".a" * 16: {"$eq": 1}}}},
            {"input.a": {"$any": {"@" + ".a" * 17: {"$eq": 1}}}},
            id="segments of an element",
        ),
        pytest.param(
            {"input.a": {"$in": [*range(256)]}}, {"input.a": {"$in": [*range(257)]}}, id="choices"
        ),
        pytest.param({"input.a": {"$eq": 2**53}}, {"input.a": {"$eq": 2**53 + 1}}, id="integer"),
        pytest.param(
            {"input.a": {"$lt": -(2**53)}}, {"input.a": {"$lt": -(2**53) - 1}}, id="least"
        ),
        pytest.param({"input.a": {"$gt": 9e15}}, {"input.a": {"$gt": 1e16}}, id="double"),
        pytest.param({"input.a": {"$eq": [1]}}, {"input.a": {"$eq": [{"a": 10**30}]}}, id="inside"),
        pytest.param({"input.a": {"$in": [1]}}, {"input.a": {"$in": [10**30]}}, id="choice"),
        pytest.param(
            {"input.a": {"$eq": arrays(32)}}, {"input.a": {"$eq": arrays(33)}}, id="literal nesting"
        ),
        pytest.param(
            {"input.a": {"$eq": "ä" * 4085}}, {"input.a": {"$eq": "ä" * 4086}}, id="bytes"
        ),
    ],
)
def test_a_limit_is_the_last_that_is_allowed(within: Any, beyond: Any) -> None:
    parse(within)
    with pytest.raises(InvalidRequest) as refused:
        parse(beyond)
    assert refused.value.wire_code == INVALID_FILTER


def test_only_the_compact_size_counts() -> None:
    spaced = json.dumps({"input.a": {"$eq": "x" * 8000}}, indent=400).encode()
    escaped = b'{"input.a":{"$eq":"' + b"\\u0061" * 8000 + b'"}}'
    assert len(spaced) > 8192
    parse(spaced)
    parse(escaped)


def test_filters_are_equal_when_only_spaces_differ() -> None:
    ours, theirs = parse(b'{"input.a":{"$eq":1}}'), parse(b'{ "input.a" : {"$eq": 1} }')
    assert ours == theirs
    assert hash(ours) == hash(theirs)
    assert repr(ours) == """Filter(b'{"input.a":{"$eq":1}}')"""
    assert ours != parse({})
    assert ours != ours.text


@pytest.mark.parametrize("value", [b'{"a":', b"", b"?", b'{"a":"\xff"}'])
def test_what_cannot_be_read_matches_nothing_even_negated(value: bytes) -> None:
    filter = {"input.new_value.a": {"$eq": "x"}}
    assert not holds(filter, change_of(value))
    assert not holds({"$not": filter}, change_of(value))


def test_asking_reads_the_values_once_for_all_filters() -> None:
    event = EventView(change_of(b'{"a":{"b":1,"c":2}}'))
    asked = [parse({f"input.new_value.a.{name}": {"$gt": 0}}) for name in "bc"]
    assert all(filter.matches(event) for filter in asked)
    opened = event.at(("input", "new_value", "a"))
    assert event.at(("input", "new_value", "a")) is opened


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-(2.0**53), 2.0**53)
    | st.text(st.characters(codec="utf-8"), max_size=3)
)
names = st.sampled_from(["a", "b", "0", "1", ""])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
segments = st.sampled_from(["a", "b", "0", "1", "old_value", "new_value", "key", "revision"])
orders = st.integers(-5, 5) | st.text(st.characters(codec="utf-8"), max_size=2)


def operators_of(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    any_of = st.fixed_dictionaries(
        {},
        optional={
            "$eq": values,
            "$ne": values,
            "$in": st.lists(values, max_size=3),
            "$nin": st.lists(values, max_size=3),
            "$gt": orders,
            "$gte": orders,
            "$lt": orders,
            "$lte": orders,
            "$exists": st.booleans(),
            "$prefix": st.text(st.characters(codec="utf-8"), max_size=1),
            "$any": inner,
        },
    )
    return any_of.filter(bool)


def paths_from(roots: list[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda root, rest: ".".join([root, *rest]),
        st.sampled_from(roots),
        st.lists(segments, max_size=3),
    )


plain = operators_of(st.just({}))
of_elements = plain | st.dictionaries(paths_from(["@"]), plain, max_size=2)
clauses = st.dictionaries(
    paths_from(["input", "input.new_value", "input.old_value", "output"]),
    operators_of(of_elements),
    max_size=3,
)
filters = st.recursive(
    clauses,
    lambda inner: (
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)})
        | st.fixed_dictionaries({"$not": inner})
    ),
    max_leaves=3,
)


def text_of(value: Any) -> bytes:
    return json.dumps(value).encode()


@given(filters, values, st.none() | values)
def test_asking_never_raises_and_not_is_the_opposite(
    filter: dict[str, Any], after: Any, before: Any
) -> None:
    change = change_of(text_of(after), None if before is None else text_of(before))
    try:
        opposite = parse({"$not": filter})
    except InvalidRequest:
        return  # beyond a limit
    assert holds(filter, change) is not opposite.matches(EventView(change))


@given(filters, st.binary(max_size=20), st.binary(max_size=20))
def test_asking_never_raises_whatever_the_values_are(
    filter: dict[str, Any], after: bytes, before: bytes
) -> None:
    try:
        parsed = parse(filter)
    except InvalidRequest:
        return
    assert parsed.matches(EventView(change_of(after, before))) in (True, False)


@given(st.binary(max_size=60) | values.map(text_of) | filters.map(text_of))
def test_parsing_refuses_or_parses_whatever_comes(raw: bytes) -> None:
    try:
        parsed = Filter.parse(raw)
    except InvalidRequest:
        return
    assert Filter.parse(parsed.text) == parsed


@given(values, values)
def test_equality_is_that_of_json(ours: Any, theirs: Any) -> None:
    change = change_of(text_of(theirs))
    assert holds({"input.new_value": {"$eq": theirs}}, change)
    same = holds({"input.new_value": {"$eq": ours}}, change)
    assert holds({"input.new_value": {"$ne": ours}}, change) is not same
    assert holds({"input.new_value": {"$in": [ours]}}, change) is same
    assert holds({"input.new_value": {"$nin": [ours]}}, change) is not same
    reverse = holds({"input.new_value": {"$eq": theirs}}, change_of(text_of(ours)))
    assert same is reverse
