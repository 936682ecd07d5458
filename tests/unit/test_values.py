"""Values as exact JSON text: what is measured, read and compared without changing them."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_state.core.values import (
    check_value,
    compact_size,
    decode_elements,
    decode_members,
    encode_text,
    equal,
    kind_of,
    nesting_of,
    nests_deeper_than,
    read_number,
)
from iii_state.errors import InvalidRequest

texts = st.text(st.characters(exclude_categories=["Cs"]))
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)
styles = st.sampled_from(
    [
        {"ensure_ascii": True},
        {"ensure_ascii": False, "separators": (",", ":")},
        {"ensure_ascii": False, "indent": 2},
        {"ensure_ascii": True, "separators": (" , ", " : ")},
    ]
)


def written(tree: object, style: dict[str, object]) -> bytes:
    """JSON text in one of several styles; infinity becomes a number that no double can hold."""
    text = json.dumps(tree, **style)  # type: ignore[arg-type]
    return text.replace("Infinity", "1e999").encode()


def depth_of(tree: object) -> int:
    """The obvious, recursive definition of nesting."""
    if isinstance(tree, dict):
        return 1 + max(map(depth_of, tree.values()), default=0)
    if isinstance(tree, list):
        return 1 + max(map(depth_of, tree), default=0)
    return 0


@given(texts)
def test_text_becomes_a_json_string(text: str) -> None:
    assert json.loads(encode_text(text)) == text


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"null", "null"),
        (b"true", "boolean"),
        (b"false", "boolean"),
        (b"-1", "number"),
        (b"0.5", "number"),
        (b'"x"', "string"),
        (b"[1]", "array"),
        (b"{}", "object"),
    ],
)
def test_the_kind_of_a_value_is_its_json_type(raw: bytes, kind: str) -> None:
    assert kind_of(raw) == kind
    assert kind_of(msgspec.Raw(raw)) == kind


def test_members_and_elements_keep_their_text_and_order() -> None:
    members = decode_members(b'{"b": 1.10, "a" : [ 1 ], "b": 1E5}')
    elements = decode_elements(b'[ 1.10 , {"x": 1}]')

    assert [(name, bytes(raw)) for name, raw in members.items()] == [("b", b"1E5"), ("a", b"[ 1 ]")]
    assert [bytes(raw) for raw in elements] == [b"1.10", b'{"x": 1}']


@given(trees, styles)
def test_nesting_is_counted_whatever_strings_hold(tree: object, style: dict[str, object]) -> None:
    assert nesting_of(written(tree, style)) == depth_of(tree)


@given(st.lists(st.text('[]{}"\\,:a'), min_size=1), st.integers(0, 5))
def test_brackets_and_quotes_inside_strings_do_not_count(texts: list[str], extra: int) -> None:
    raw = b"[" * extra + json.dumps(texts).encode() + b"]" * extra

    assert nesting_of(raw) == 1 + extra
    assert [bound for bound in range(9) if nests_deeper_than(raw, bound)] == [*range(1 + extra)]


@given(trees, styles, st.integers(0, 8))
def test_what_may_nest_too_deep_is_told_from_what_does(
    tree: object, style: dict[str, object], bound: int
) -> None:
    assert nests_deeper_than(written(tree, style), bound) == (depth_of(tree) > bound)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 5 + b"]" * 5,
        b'{"a":' * 5 + b"[1,2,3,4,5,6]" + b"}" * 5,
        b"[" + b"[[[[]]]]," * 50 + b"1]",
    ],
)
def test_a_value_is_refused_one_level_over_the_bound(raw: bytes) -> None:
    nesting = depth_of(json.loads(raw))

    check_value(raw, nesting)
    with pytest.raises(InvalidRequest, match=f"nests {nesting} levels.*than the {nesting - 1}"):
        check_value(raw, nesting - 1)


def test_a_value_with_many_containers_that_is_flat_is_taken() -> None:
    check_value(b"[" + b"{}," * 1000 + b'"[[[["]', 2)


def test_hostile_nesting_is_measured_without_recursion() -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_value(b"[" * 1_000_000 + b"]" * 1_000_000, 120)

    assert refused.value.wire_code == "deserialization_error"
    assert "1000000 levels" in refused.value.message


@given(trees, styles)
def test_the_compact_size_does_not_depend_on_spaces_and_escapes(
    tree: object, style: dict[str, object]
) -> None:
    compact = written(tree, {"ensure_ascii": False, "separators": (",", ":")})

    assert compact_size(written(tree, style)) == len(compact)


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        (b'"hello world"', 13),
        (rb'"\/"', 3),
        (rb'"\u0041\u00e9\u20ac\ud83d\ude00"', 2 + 1 + 2 + 3 + 4),
        (rb'"\u0022\u005c\u000a\u0001"', 2 + 2 + 2 + 2 + 6),
        (b'{ "a" : [ 1.10 , 1E5 ] }', len('{"a":[1.10,1E5]}')),
    ],
)
def test_the_compact_size_counts_shortest_escapes_and_numbers_as_written(
    raw: bytes, size: int
) -> None:
    assert compact_size(raw) == size


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (b"0", 0),
        (b"41", 41),
        (b"-9223372036854775808", -(2**63)),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", 2.0**64),
        (b"-9223372036854775809", -(2.0**63)),
        (b"-0", -0.0),
        (b"0.0", 0.0),
        (b"1.0", 1.0),
        (b"1E5", 1e5),
        (b"1e400", math.inf),
        (b"-1e400", -math.inf),
        (b"9" * 5000, math.inf),
    ],
)
def test_a_number_is_an_integer_within_64_bits_and_else_a_float(
    raw: bytes, number: int | float
) -> None:
    found = read_number(raw)

    assert repr(found) == repr(number)  # tells 1 from 1.0, and 0.0 from -0.0


@pytest.mark.parametrize("raw", [b"null", b"true", b'"1"', b"[1]", b"{}"])
def test_what_is_no_number_reads_as_none(raw: bytes) -> None:
    assert read_number(raw) is None


@given(trees, styles, styles)
def test_a_value_equals_itself_in_every_style(
    tree: object, style: dict[str, object], other: dict[str, object]
) -> None:
    assert equal(written(tree, style), msgspec.Raw(written(tree, other)))


alike = st.recursive(
    st.sampled_from([0, 1, 1.0, -0.0, True, False, None, "", "1", 2**53, 2**53 + 1, 2.0**53]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=3,
)


def same(a: object, b: object) -> bool:
    """The obvious, recursive definition of equality."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return isinstance(a, bool) == isinstance(b, bool) and a == b


@given(alike, alike)
def test_values_are_equal_exactly_when_their_trees_are(one: object, other: object) -> None:
    assert equal(written(one, {}), written(other, {})) == same(one, other)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (b"1", b"1.0"),
        (b"100000", b"1E5"),
        (b"0", b"-0"),
        (b"0.1", b"0.10"),
        (b"9007199254740992", b"9007199254740992.0"),
        (b"1e400", b"1e400"),
        (b"9" * 500, b"9" * 500),
        (rb'"\u0041"', b'"A"'),
        (b'{"a":1,"b":[2]}', b'{ "b": [2.0], "a": 1 }'),
        (b'{"a":2,"a":1}', b'{"a":1}'),
    ],
)
def test_equal_values_may_be_written_differently(a: bytes, b: bytes) -> None:
    assert equal(a, b)
    assert equal(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (b"true", b"1"),
        (b"false", b"0"),
        (b"true", b"false"),
        (b"null", b"{}"),
        (b'"1"', b"1"),
        (b'"a"', b'"b"'),
        (b"1", b"2"),
        (b"9007199254740993", b"9007199254740992"),
        (b"9007199254740993", b"9007199254740992.0"),
        (b"18446744073709551617", b"18446744073709551616"),
        (b"1e400", b"1e401"),
        (b"9" * 500, b"9" * 501),
        (b"9" * 399, b"1e400"),
        (b"[1,2]", b"[2,1]"),
        (b"[1]", b"[1,1]"),
        (b'{"a":1}', b'{"a":1,"b":1}'),
        (b'{"a":1}', b'{"b":1}'),
        (b'{"a":null}', b"{}"),
        (b'{"a":[{"b":1}]}', b'{"a":[{"b":2}]}'),
    ],
)
def test_values_that_differ_are_not_equal(a: bytes, b: bytes) -> None:
    assert not equal(a, b)
    assert not equal(b, a)
