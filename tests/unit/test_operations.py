"""The update operations: recorded behaviour of the original, properties, and what faults say."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iii_state.core.operations import (
    DOC_URL,
    OperationError,
    apply_operations,
    decode_operations,
)
from iii_state.core.values import decode_members, equal
from iii_state.errors import InvalidRequest, LimitExceeded

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "update_ops.json").read_text())
TYPES = ("set", "merge", "increment", "decrement", "append", "remove")
CODES = {
    *(f"{name}.path.segment_too_long" for name in TYPES),
    *(f"{name}.path.proto_polluted" for name in TYPES),
    *(f"{name}.target_not_object" for name in TYPES if name != "merge"),
    "append.path.too_deep",
    "append.path.empty_segment",
    "merge.path.too_deep",
    "merge.path.empty_segment",
    "merge.value.not_an_object",
    "merge.value.too_many_keys",
    "merge.value.proto_polluted",
    "merge.value.too_deep",
    "increment.not_number",
    "decrement.not_number",
    "append.type_mismatch",
}
OPS_MAX = 2000

names = st.sampled_from(["a", "b", "c", "é\n", "a.b", "__proto__", "x" * 300])
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
numbers = (
    st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.sampled_from([2**63 - 1, -(2**63), 2**64 - 1, 2**64, 10**400])
)
trees = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
shallow_paths = st.just("") | names
deep_paths = st.none() | shallow_paths | st.lists(names | st.just(""), max_size=4)
amounts = st.integers(-3, 3) | st.sampled_from([2**63 - 1, -(2**63)])
operations = st.one_of(
    st.fixed_dictionaries({"type": st.just("set"), "path": shallow_paths, "value": trees}),
    st.fixed_dictionaries({"type": st.just("merge"), "path": deep_paths, "value": trees}),
    st.fixed_dictionaries({"type": st.just("append"), "path": deep_paths, "value": trees}),
    st.fixed_dictionaries({"type": st.just("increment"), "path": shallow_paths, "by": amounts}),
    st.fixed_dictionaries({"type": st.just("decrement"), "path": shallow_paths, "by": amounts}),
    st.fixed_dictionaries({"type": st.just("remove"), "path": shallow_paths}),
)


def written(tree: Any, indent: int | None = None) -> bytes:
    return json.dumps(tree, indent=indent).replace("Infinity", "1e999").encode()


def applied(before: bytes | None, *ops: Any) -> tuple[bytes, tuple[OperationError, ...]]:
    return apply_operations(before, decode_operations(written(ops), OPS_MAX))


def typed(value: Any) -> Any:
    """A form in which 2, 2.0 and true differ, and the order of members does not matter."""
    if isinstance(value, dict):
        return {name: typed(member) for name, member in value.items()}
    if isinstance(value, list):
        return [typed(element) for element in value]
    return (type(value).__name__, repr(value))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_operations_do_what_the_original_does(vector: dict[str, Any]) -> None:
    before = None if "absent" in vector else written(vector["old"])
    if "call_error" in vector:
        with pytest.raises(InvalidRequest) as refused:
            decode_operations(written(vector["ops"]), OPS_MAX)
        assert refused.value.wire_code == vector["call_error"]
        return

    after, errors = applied(before, *vector["ops"])

    assert typed(json.loads(after)) == typed(vector["new"])
    assert [{"op_index": e.op_index, "code": e.code} for e in errors] == vector["errors"]


def test_the_vectors_are_all_there() -> None:
    assert len(VECTORS) == 404
    assert len(CODES) == 28
    assert {error["code"] for vector in VECTORS for error in vector.get("errors", ())} <= CODES


@given(st.none() | trees.map(written), st.lists(operations, max_size=8))
def test_any_operations_on_any_value_make_a_value(before: bytes | None, ops: list[Any]) -> None:
    after, errors = applied(before, *ops)

    assert bytes(msgspec.json.decode(after, type=msgspec.Raw)) == after
    assert {error.code for error in errors} <= CODES
    assert all(error.code.startswith(ops[error.op_index]["type"]) for error in errors)
    indexes = [error.op_index for error in errors]
    assert indexes == sorted(set(indexes))


ABSENT = object()


def plainly_applied(root: Any, ops: list[Any]) -> tuple[Any, list[tuple[int, str]]]:
    """The tables of the operations on decoded values, one by one; paths and values are sound."""
    errors: list[tuple[int, str]] = []
    for index, op in enumerate(ops):
        path = op.get("path") or []
        path = [path] if isinstance(path, str) else path
        root, fault = plain_step(root, op, path)
        if fault:
            errors.append((index, f"{op['type']}.{fault}"))
    return ({} if root is ABSENT else root), errors


def plain_step(root: Any, op: dict[str, Any], path: list[str]) -> tuple[Any, str]:
    if op["type"] == "merge":
        if root is ABSENT or (path and not isinstance(root, dict)):
            root = {}
        if isinstance(root, dict):
            plain_walk(root, path).update(op["value"])
        return root, ""
    if not path:
        new, fault = plain_leaf(root, op, nested=False)
        return (root, fault) if fault else (None if new is ABSENT else new, "")
    root = {} if root is ABSENT else root
    if not isinstance(root, dict):
        return root, "target_not_object"
    holder = plain_walk(root, path[:-1])
    new, fault = plain_leaf(holder.get(path[-1], ABSENT), op, nested=len(path) > 1)
    if not fault:
        holder[path[-1]] = new
        if new is ABSENT:
            del holder[path[-1]]
    return root, fault


def plain_walk(node: dict[str, Any], path: list[str]) -> dict[str, Any]:
    for name in path:
        if not isinstance(node.get(name), dict):
            node[name] = {}
        node = node[name]
    return node


def plain_leaf(old: Any, op: dict[str, Any], *, nested: bool) -> tuple[Any, str]:
    if op["type"] == "set":
        return op["value"], ""
    if op["type"] == "remove":
        return ABSENT, ""
    if op["type"] == "append":
        return plain_append(old, op["value"], nested=nested)
    by = op["by"] if op["type"] == "increment" else -op["by"]
    if old is ABSENT:
        return by, ""
    if isinstance(old, bool) or not isinstance(old, int | float):
        return old, "not_number"
    return old + by, ""


def plain_append(old: Any, value: Any, *, nested: bool) -> tuple[Any, str]:
    if old is None or old is ABSENT:
        bare = isinstance(value, str) and not (nested and old is ABSENT)
        return (value if bare else [value]), ""
    if isinstance(old, list):
        return [*old, value], ""
    if isinstance(old, str) and isinstance(value, str):
        return old + value, ""
    return old, "type_mismatch"


few = st.sampled_from(["a", "b"])
small = st.recursive(
    st.sampled_from([None, True, 7, 1.5, "s"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(few, inner, max_size=2),
    max_leaves=4,
)
few_paths = st.lists(few, max_size=3)
sound_operations = st.one_of(
    st.fixed_dictionaries({"type": st.just("set"), "path": few | st.just(""), "value": small}),
    st.fixed_dictionaries(
        {"type": st.just("merge"), "value": st.dictionaries(few, small, max_size=2)},
        optional={"path": few_paths},
    ),
    st.fixed_dictionaries(
        {"type": st.just("append"), "value": small}, optional={"path": few_paths}
    ),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(["increment", "decrement"]),
            "path": few | st.just(""),
            "by": st.integers(-3, 3),
        }
    ),
    st.fixed_dictionaries({"type": st.just("remove"), "path": few | st.just("")}),
)


@given(st.just(ABSENT) | small, st.lists(sound_operations, max_size=8))
def test_operations_on_text_do_what_they_do_on_decoded_values(tree: Any, ops: list[Any]) -> None:
    before = None if tree is ABSENT else written(tree)

    after, errors = applied(before, *ops)

    root = ABSENT if before is None else json.loads(before)
    expected, expected_errors = plainly_applied(root, copy.deepcopy(ops))
    assert typed(json.loads(after)) == typed(expected)
    assert [(error.op_index, error.code) for error in errors] == expected_errors


@given(trees, st.lists(operations, max_size=6), st.integers(0, 6))
def test_a_list_of_operations_does_what_its_parts_do_one_after_another(
    tree: Any, ops: list[Any], cut: int
) -> None:
    at_once, errors = applied(written(tree), *ops)

    between, errors_before = applied(written(tree), *ops[:cut])
    in_parts, errors_after = applied(between, *ops[cut:])

    assert equal(at_once, in_parts)
    assert [e.code for e in errors] == [e.code for e in (*errors_before, *errors_after)]


@given(trees, st.lists(operations, max_size=4))
def test_spaces_in_the_stored_value_make_no_difference(tree: Any, ops: list[Any]) -> None:
    spread, errors = applied(written(tree, indent=2), *ops)

    assert (typed(json.loads(spread)), errors) == (
        typed(json.loads(applied(written(tree), *ops)[0])),
        applied(written(tree), *ops)[1],
    )


ODD_TEXTS = [
    b"1.10",
    b"1E5",
    b"1e400",
    b"-0",
    b"123456789012345678901234567890",
    rb'"\u0041\/"',
    b'{ "b" : 1, "a": 2, "b": 3 }',
    b"[ 1.0,\n2 ]",
]


@given(
    st.lists(st.sampled_from(ODD_TEXTS), min_size=1),
    st.lists(operations.filter(lambda op: op["path"] not in ("", None, [])), max_size=4),
)
def test_members_that_no_operation_names_keep_their_text_and_order(
    untouched: list[bytes], ops: list[Any]
) -> None:
    members = [b'"m%d" : %b' % pair for pair in enumerate(untouched)]

    after, _ = applied(b'{"a":1.10, %b, "b": {"c": 1}}' % b" , ".join(members), *ops)

    kept = {name: raw for name, raw in decode_members(after).items() if name.startswith("m")}
    assert list(kept) == [f"m{i}" for i in range(len(untouched))]
    assert [bytes(raw) for raw in kept.values()] == untouched


def test_a_nested_change_leaves_the_text_of_siblings_alone() -> None:
    before = b'{"deep":{"x":1.10,"list":[1.0, 2],"y":{"z" : 1E5}},"tail":1e400}'

    after, errors = applied(before, {"type": "append", "path": ["deep", "list"], "value": 3})

    assert after == b'{"deep":{"x":1.10,"list":[1.0, 2,3],"y":{"z" : 1E5}},"tail":1e400}'
    assert errors == ()


def test_no_operations_leave_the_text_alone() -> None:
    assert applied(b'{ "a" : 1.10 }') == (b'{ "a" : 1.10 }', ())
    assert applied(None) == (b"{}", ())


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        (b"[ ]", 1, b"[1]"),
        (b"[\n1\n]", "x", b'[\n1,"x"]'),
        (rb'"\u0041\\"', "\n", rb'"\u0041\\\n"'),
        (b'""', "", b'""'),
    ],
)
def test_what_is_appended_joins_the_text_that_is_there(
    before: bytes, value: Any, after: bytes
) -> None:
    assert applied(before, {"type": "append", "value": value}) == (after, ())


@pytest.mark.parametrize(
    ("before", "by", "after"),
    [
        (b"2.0", 1, b"3.0"),
        (b"1e2", 0, b"100.0"),
        (b"-0", 0, b"0.0"),
        (b"18446744073709551616", 1, b"1.8446744073709552e19"),
        (b"9223372036854775807", 1, b"9223372036854775808"),
        (b"-1", -(2**63) + 1, b"-9223372036854775808"),
    ],
)
def test_sums_stay_what_their_first_number_was(before: bytes, by: int, after: bytes) -> None:
    assert applied(before, {"type": "increment", "path": "", "by": by}) == (after, ())


def test_numbers_and_strings_grow_through_a_list_without_being_read_again() -> None:
    count = [{"type": "increment", "path": "n", "by": 2}] * 500
    log = [{"type": "append", "path": "log", "value": "é"}] * 500
    seen = [{"type": "append", "path": ["a", "seen"], "value": i} for i in range(500)]

    after, errors = applied(None, *count, *log, *seen)

    assert json.loads(after) == {"n": 1000, "log": "é" * 500, "a": {"seen": list(range(500))}}
    assert errors == ()


@pytest.mark.parametrize(
    ("before", "op", "code", "said"),
    [
        (
            b"[1]",
            {"type": "set", "path": "a", "value": 1},
            "set.target_not_object",
            "`a`.*root.*arr",
        ),
        (
            b"7",
            {"type": "append", "path": ["a", "b"], "value": 1},
            "append.target_not_object",
            r"\[a, b\].*root.*number",
        ),
        (
            b'{"n":"x"}',
            {"type": "increment", "path": "n", "by": 1},
            "increment.not_number",
            "string",
        ),
        (b"null", {"type": "decrement", "path": "", "by": 1}, "decrement.not_number", "root.*null"),
        (
            b'{"n":18446744073709551615}',
            {"type": "increment", "path": "n", "by": 1},
            "increment.not_number",
            "`n`.*number.*range",
        ),
        (b"1e999", {"type": "increment", "path": "", "by": 1}, "increment.not_number", "range"),
        (
            b'{"a":{"e":true}}',
            {"type": "append", "path": ["a", "e"], "value": {}},
            "append.type_mismatch",
            "`e`.*boolean.*object",
        ),
        (b"{}", {"type": "merge", "value": [1]}, "merge.value.not_an_object", "array"),
        (
            b"{}",
            {"type": "merge", "value": {str(i): i for i in range(1025)}},
            "merge.value.too_many_keys",
            "1025.*1024",
        ),
        (
            b"{}",
            {"type": "merge", "value": json.loads('{"a":' * 17 + "1" + "}" * 17)},
            "merge.value.too_deep",
            "17.*16",
        ),
        (
            b"{}",
            {"type": "merge", "path": ["a"] * 33, "value": {}},
            "merge.path.too_deep",
            "33.*32",
        ),
        (
            b"{}",
            {"type": "append", "path": ["a", ""], "value": 1},
            "append.path.empty_segment",
            "1",
        ),
        (b"{}", {"type": "remove", "path": "é" * 129}, "remove.path.segment_too_long", "258.*256"),
        (b"{}", {"type": "set", "path": "prototype"}, "set.path.proto_polluted", "`prototype`"),
    ],
)
def test_a_skipped_operation_says_where_and_what_it_found(
    before: bytes, op: dict[str, Any], code: str, said: str
) -> None:
    after, (error,) = applied(before, op)

    assert after == before
    assert error.code == code
    assert re.search(said, error.message)


def test_the_bounds_themselves_are_allowed() -> None:
    at_bounds = [
        {"type": "set", "path": "é" * 128, "value": 1},
        {"type": "merge", "path": ["a"] * 32, "value": {str(i): i for i in range(1024)}},
        {"type": "merge", "value": json.loads('{"a":' * 16 + "1" + "}" * 16)},
    ]

    assert applied(None, *at_bounds)[1] == ()


def test_an_error_travels_with_four_members() -> None:
    error = OperationError(2, "set.target_not_object", "no object")

    assert json.loads(msgspec.json.encode(error)) == {
        "op_index": 2,
        "code": "set.target_not_object",
        "message": "no object",
        "doc_url": DOC_URL,
    }


def test_members_that_an_operation_does_not_know_are_ignored() -> None:
    op = {"extra": [1], "by": 1, "_caller_worker_id": "w", "path": "n", "type": "increment"}

    assert applied(None, op) == (b'{"n":1}', ())


def test_the_value_of_a_set_may_be_left_out() -> None:
    assert applied(None, {"type": "set", "path": "a"}) == (b'{"a":null}', ())


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        (b"null", "`ops` is null, an array"),
        (b'"set"', '`ops` is the string "set", an array'),
        (b"[1]", "operation 0 is the number 1, an object"),
        (b"[[]]", "operation 0 is an array, an object"),
        (b"[{}]", "operation 0: member `type` is missing"),
        (b'[{"type":1.5}]', "`type` is the number 1.5, a string"),
        (
            b'[{"type":"push"}]',
            '"push", not one of set, merge, increment, decrement, append, remove',
        ),
        (b'[{"type":"remove","path":""},{"type":"set"}]', r"operation 1 \(set\): member `path` is"),
        (b'[{"type":"set","path":["a"]}]', "`path` is an array, a string is expected"),
        (b'[{"type":"merge","path":"a"}]', "member `value` is missing"),
        (
            b'[{"type":"merge","value":{},"path":{}}]',
            "`path` is an object, a string, an array of str",
        ),
        (
            b'[{"type":"append","value":1,"path":["a",1]}]',
            "`path` is an array, a string, an array of",
        ),
        (b'[{"type":"increment","path":"a"}]', "member `by` is missing"),
        (b'[{"type":"increment","path":"a","by":true}]', "the boolean true, a 64-bit integer"),
        (
            b'[{"type":"increment","path":"a","by":9223372036854775808}]',
            "the number 9223372036854775808",
        ),
        (
            b'[{"type":"decrement","path":"a","by":"%b"}]' % (b"1" * 999),
            "string .1{79}[.]{3}, a 64-bit",
        ),
        (b'[{"type":"set","path":1,"path":"a"}]', "Expected `str`"),
    ],
)
def test_a_request_that_does_not_decode_names_the_fault(ops: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        decode_operations(msgspec.Raw(ops), OPS_MAX)

    assert refused.value.wire_code == "deserialization_error"


def test_more_operations_than_allowed_are_refused() -> None:
    ops = written([{"type": "remove", "path": ""}] * 3)

    assert len(decode_operations(ops, 3)) == 3
    with pytest.raises(LimitExceeded) as refused:
        decode_operations(ops, 2)

    assert refused.value.wire_code == "LIMIT_EXCEEDED"
    assert refused.value.details == {"limit": "ops_max", "actual": 3, "bound": 2}
