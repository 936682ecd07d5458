"""The six update operations: how they are asked for, and what comes of them.

`decode_operations` reads them from a request, `apply_operations` runs them in order. One that does
not fit the value is reported and skipped; the others apply. What each does to a value is in
`core/document.py`; here are the rules that hold whatever the value is.

To add an operation: a struct here, listed in `Operation`, and its method in `Document`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from iii_state.core.document import Document, Refusal
from iii_state.core.values import (
    INT64_MAX,
    INT64_MIN,
    JsonText,
    decode_elements,
    decode_members,
    kind_of,
    nesting_of,
    nests_deeper_than,
)
from iii_state.errors import InvalidRequest, LimitExceeded

SEGMENTS_MAX: Final = 32
SEGMENT_BYTES_MAX: Final = 256
MERGE_MEMBERS_MAX: Final = 1024
MERGE_NESTING_MAX: Final = 16
FORBIDDEN_NAMES: Final = frozenset({"__proto__", "constructor", "prototype"})
"""Names that reach behind an object in JavaScript; refused in paths and in what is merged."""

DOC_URL: Final = "https://iii.dev/docs/workers/iii-state#error-codes"
SHOWN_MAX: Final = 80
"""Bytes or characters of a client's own text that a message repeats."""

Path = Annotated[str, msgspec.Meta(description="a string")]
DeepPath = Annotated[
    str | tuple[str, ...] | None,
    msgspec.Meta(description="a string, an array of strings or null"),
]
Amount = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX, description="a 64-bit integer")]


class SetOperation(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="set"):
    """Write one first-level member, or with path `""` the whole value."""

    path: Path
    value: msgspec.Raw = msgspec.Raw(b"null")

    def carry_out(self, document: Document) -> None:
        """Change `document`, or raise `Refusal` and leave it as it was."""
        _check_name(self.path)
        document.set(self.path, self.value)


class MergeOperation(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="merge"):
    """Write the members of an object into the object at `path`, one level deep."""

    value: msgspec.Raw
    path: DeepPath = None

    def carry_out(self, document: Document) -> None:
        """See `SetOperation.carry_out`."""
        path = _checked_path(self.path)
        document.merge(path, _checked_members(self.value))


class IncrementOperation(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="increment"):
    """Add an integer to a number."""

    path: Path
    by: Amount

    def carry_out(self, document: Document) -> None:
        """See `SetOperation.carry_out`."""
        _check_name(self.path)
        document.add(self.path, self.by)


class DecrementOperation(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="decrement"):
    """Subtract an integer from a number."""

    path: Path
    by: Amount

    def carry_out(self, document: Document) -> None:
        """See `SetOperation.carry_out`."""
        _check_name(self.path)
        document.add(self.path, -self.by)


class AppendOperation(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="append"):
    """Push one element onto an array, or add a string to a string."""

    value: msgspec.Raw
    path: DeepPath = None

    def carry_out(self, document: Document) -> None:
        """See `SetOperation.carry_out`."""
        document.append(_checked_path(self.path), self.value)


class RemoveOperation(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="remove"):
    """Remove one first-level member, or with path `""` set the whole value to null."""

    path: Path

    def carry_out(self, document: Document) -> None:
        """See `SetOperation.carry_out`."""
        _check_name(self.path)
        document.remove(self.path)


Operation = (
    SetOperation
    | MergeOperation
    | IncrementOperation
    | DecrementOperation
    | AppendOperation
    | RemoveOperation
)


class OperationError(msgspec.Struct, frozen=True, gc=False):
    """An operation that was skipped, in its form on the wire."""

    op_index: int
    code: str
    message: str
    doc_url: str = DOC_URL


_decode = msgspec.json.Decoder(tuple[Operation, ...]).decode


def decode_operations(raw: JsonText, count_max: int) -> tuple[Operation, ...]:
    """Read the member `ops` of a request. One that does not decode refuses them all.

    Raises:
        InvalidRequest: names the first fault.
        LimitExceeded: more than `count_max` operations.
    """
    try:
        operations = _decode(raw)
    except msgspec.DecodeError as error:
        raise InvalidRequest(_first_fault(raw) or str(error)) from error
    if len(operations) > count_max:
        raise LimitExceeded(
            f"one update takes at most {count_max} operations, this one has {len(operations)}; "
            "split it, or ask for a higher `ops_max`",
            limit="ops_max",
            actual=len(operations),
            bound=count_max,
        )
    return operations


_TYPES: Final[dict[str, type[Operation]]] = {
    str(kind.__struct_config__.tag): kind for kind in Operation.__args__
}


def _first_fault(raw: JsonText) -> str:
    """What is wrong with operations that did not decode."""
    if kind_of(raw) != "array":
        return f"`ops` is {_described(raw)}, an array is expected"
    faults = (_fault_of(index, op) for index, op in enumerate(decode_elements(raw)))
    return next(filter(None, faults), "")


def _fault_of(index: int, raw: msgspec.Raw) -> str:
    if kind_of(raw) != "object":
        return f"operation {index} is {_described(raw)}, an object is expected"
    members = decode_members(raw)
    if "type" not in members:
        return f"operation {index}: member `type` is missing"
    if kind_of(members["type"]) != "string":
        return f"operation {index}: `type` is {_described(members['type'])}, a string is expected"
    name = msgspec.json.decode(members["type"], type=str)
    if name not in _TYPES:
        known = ", ".join(_TYPES)
        return f"operation {index}: unknown type {_described(members['type'])}, not one of {known}"
    for field in msgspec.structs.fields(_TYPES[name]):
        fault = _member_fault(field, members.get(field.name))
        if fault:
            return f"operation {index} ({name}): {fault}"
    return ""


def _member_fault(field: msgspec.structs.FieldInfo, value: msgspec.Raw | None) -> str:
    if value is None:
        return f"member `{field.name}` is missing" if field.required else ""
    try:
        msgspec.json.decode(value, type=field.type)
    except msgspec.DecodeError:
        expected = field.type.__metadata__[0].description
        return f"`{field.name}` is {_described(value)}, {expected} is expected"
    return ""


def _described(raw: JsonText) -> str:
    """A value as found: its type, with the text of booleans, numbers and strings."""
    kind = kind_of(raw)
    if kind == "null":
        return "null"
    if kind in ("array", "object"):
        return f"an {kind}"
    text = bytes(raw)[:SHOWN_MAX].decode(errors="ignore")
    return f"the {kind} {text}" + ("..." if len(raw) > SHOWN_MAX else "")


def apply_operations(
    before: bytes | None, operations: Sequence[Operation]
) -> tuple[bytes, tuple[OperationError, ...]]:
    """The value after the operations, and an error for each that was skipped, in their order.

    `before` is None when the key is absent, which starts as `{}`. The result is stored whatever
    the errors.
    """
    document = Document(before)
    errors: tuple[OperationError, ...] = ()
    for index, operation in enumerate(operations):
        try:
            operation.carry_out(document)
        except Refusal as refusal:
            code = f"{operation.__struct_config__.tag}.{refusal.reason}"
            errors += (OperationError(index, code, refusal.message),)
    return document.encode(), errors


def _checked_path(path: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The names that a path walks through; none for the root."""
    if not path:
        return ()
    if isinstance(path, str):
        _check_name(path)
        return (path,)
    if len(path) > SEGMENTS_MAX:
        raise Refusal(
            "path.too_deep",
            f"the path has {len(path)} segments, at most {SEGMENTS_MAX} are allowed",
        )
    for index, name in enumerate(path):
        if not name:
            raise Refusal(
                "path.empty_segment",
                f"segment {index} of the path is empty; leave the path out to mean the root",
            )
        _check_name(name)
    return path


def _check_name(name: str) -> None:
    if name in FORBIDDEN_NAMES:
        raise Refusal(
            "path.proto_polluted",
            f"`{name}` cannot be used in a path: it is a name that JavaScript objects reserve",
        )
    # A character has at most four bytes, so that most names need no closer look.
    if len(name) * 4 > SEGMENT_BYTES_MAX and len(name.encode()) > SEGMENT_BYTES_MAX:
        raise Refusal(
            "path.segment_too_long",
            f"segment `{name[:SHOWN_MAX]}...` of the path has {len(name.encode())} bytes, at most "
            f"{SEGMENT_BYTES_MAX} are allowed",
        )


def _checked_members(value: JsonText) -> dict[str, msgspec.Raw]:
    """The members of what is to be merged."""
    found = kind_of(value)
    if found != "object":
        raise Refusal("value.not_an_object", f"only an object can be merged, found {found}")
    members = decode_members(value)
    if len(members) > MERGE_MEMBERS_MAX:
        raise Refusal(
            "value.too_many_keys",
            f"the value has {len(members)} members, at most {MERGE_MEMBERS_MAX} can be merged at "
            "once",
        )
    forbidden = FORBIDDEN_NAMES & members.keys()
    if forbidden:
        raise Refusal(
            "value.proto_polluted",
            f"`{min(forbidden)}` cannot be merged: it is a name that JavaScript objects reserve",
        )
    if nests_deeper_than(bytes(value), MERGE_NESTING_MAX):
        raise Refusal(
            "value.too_deep",
            f"the value nests {nesting_of(value)} levels, at most "
            f"{MERGE_NESTING_MAX} can be merged",
        )
    return members
