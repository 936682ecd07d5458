"""A value opened for change, only as far as the changes reach.

A `Document` holds a tree whose leaves are raw JSON text. A level is decoded when an operation walks
through it; what nobody touches stays text and is copied as it is into the result. Arrays and
strings that grow are kept in pieces, so that many appends cost what they add.

The rules for absent keys need no state of their own: the root is the one member of an outer
mapping, and a document that was absent and not yet changed is that mapping empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from iii_state.core.values import (
    INT64_MAX,
    INT64_MIN,
    UINT64_MAX,
    JsonText,
    Kind,
    decode_members,
    kind_of,
    read_number,
)

ROOT: Final = ""
"""The path of the whole value. A member of this name cannot be reached."""

_NULL: Final = msgspec.Raw(b"null")
_SPACE: Final = b" \t\r\n"


class Refusal(Exception):
    """An operation does not fit: the last part of its code, and a sentence. Nothing changed."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class _Growing:
    """An array or string being appended to: its text in pieces, without the end."""

    __slots__ = ("kind", "pieces")

    def __init__(self, kind: Kind, raw: bytes) -> None:
        self.kind = kind
        self.pieces = [raw[:-1].rstrip(_SPACE) if kind == "array" else raw[:-1]]

    def push(self, value: JsonText) -> None:
        """Add an element to an array."""
        if self.pieces != [b"["]:
            self.pieces.append(b",")
        self.pieces.append(bytes(value))

    def extend(self, value: JsonText) -> None:
        """Add the characters of a string to a string."""
        self.pieces.append(bytes(value)[1:-1])

    def text(self) -> bytes:
        """The whole, as JSON text."""
        return b"".join(self.pieces) + (b"]" if self.kind == "array" else b'"')


Node: TypeAlias = "msgspec.Raw | dict[str, Node] | _Growing | int | float"
Members: TypeAlias = dict[str, Node]

_decode = cast("Callable[[JsonText], Members]", decode_members)


def _encode_growing(node: Any) -> msgspec.Raw:
    return msgspec.Raw(node.text())


_encode = msgspec.json.Encoder(enc_hook=_encode_growing).encode


class Document:
    """A value and the changes made to it; `before` is None for an absent key.

    Every method carries out one operation or raises `Refusal` and leaves the value as it was.
    Names and values must have been checked.
    """

    __slots__ = ("_outer",)

    def __init__(self, before: bytes | None) -> None:
        self._outer: Members = {} if before is None else {ROOT: msgspec.Raw(before)}

    def encode(self) -> bytes:
        """The value as it is now; `{}` for an absent one that nothing changed."""
        return _encode(self._outer.get(ROOT, {}))

    def set(self, name: str, value: JsonText) -> None:
        """Write a member, or the whole value."""
        self._holder_of(name)[name] = msgspec.Raw(value)

    def remove(self, name: str) -> None:
        """Remove a member that may be missing, or set the whole value to null."""
        if name == ROOT:
            self._outer[ROOT] = _NULL
        else:
            self._holder_of(name).pop(name, None)

    def add(self, name: str, amount: int) -> None:
        """Add to a number; what is missing becomes `amount`."""
        holder = self._holder_of(name)
        old = holder.get(name)
        if old is None:
            holder[name] = amount
            return
        total = _sum(old, amount)
        if total is None:
            found = _kind(old)
            fault = f"{amount} more is out of range" if found == "number" else "not a number"
            raise Refusal("not_number", f"{_quoted(name)} is of type {found}: {fault}")
        holder[name] = total

    def append(self, path: Sequence[str], value: JsonText) -> None:
        """Push onto an array, or add to a string.

        What is missing becomes the string itself or an array of one; below the first level always
        an array. Parents that are missing or no objects become objects.
        """
        name = path[-1] if path else ROOT
        holder = self._holder_of(name, path)
        for parent in path[:-1]:
            holder = _entered(holder, parent)
        _append(holder, name, value, bare=len(path) < 2)

    def merge(self, path: Sequence[str], members: dict[str, msgspec.Raw]) -> None:
        """Write members into the object at `path`, which is made on the way if it is none.

        Merging into a whole value that is no object does nothing.
        """
        if path:
            target = _entered(self._outer, ROOT)
            for name in path:
                target = _entered(target, name)
            target.update(members)
        else:
            root = _opened(self._outer, ROOT) if self._outer else _entered(self._outer, ROOT)
            if root is not None:
                root.update(members)

    def _holder_of(self, name: str, path: Sequence[str] = ()) -> Members:
        """The mapping that a first-level name, or the root, is a member of."""
        outer = self._outer
        if name == ROOT:
            return outer
        if not outer:
            outer[ROOT] = {}
        root = _opened(outer, ROOT)
        if root is None:
            place = f"[{', '.join(path)}]" if len(path) > 1 else _quoted(name)
            raise Refusal(
                "target_not_object",
                f"{place} names a member of an object, but root is of type {_kind(outer[ROOT])}",
            )
        return root


def _opened(holder: Members, name: str) -> Members | None:
    """The members of the object called `name`; None if there is no such object."""
    node = holder.get(name)
    if type(node) is dict:
        return node
    if type(node) is not msgspec.Raw:
        return None
    try:
        members = holder[name] = _decode(node)
    except msgspec.ValidationError:  # not an object; cheaper than to look first
        return None
    return members


def _entered(holder: Members, name: str) -> Members:
    """The members of the object called `name`, made in the place of whatever else is there."""
    members = _opened(holder, name)
    if members is None:
        members = holder[name] = {}
    return members


def _kind(node: Node) -> Kind:
    if isinstance(node, msgspec.Raw):
        return kind_of(node)
    if isinstance(node, _Growing):
        return node.kind
    return "object" if isinstance(node, dict) else "number"


def _sum(old: Node, amount: int) -> int | float | None:
    """`old + amount`; None if `old` is not a number or the sum is out of range.

    Integers stay within 64 bits: signed ones, and from 0 upwards unsigned ones as well.
    """
    number = read_number(old) if type(old) is msgspec.Raw else old
    if type(number) is int:
        total = number + amount
        if INT64_MIN <= total <= (UINT64_MAX if number >= 0 else INT64_MAX):
            return total
    elif type(number) is float:
        result = number + float(amount)
        if math.isfinite(result):
            return result
    return None


def _append(holder: Members, name: str, value: JsonText, *, bare: bool) -> None:
    """Append to a member. With `bare`, a string put where nothing is stays a string."""
    node = holder.get(name)
    found = "missing" if node is None else _kind(node)
    added = kind_of(value)
    if found == "null" or (found == "missing" and bare):
        holder[name] = msgspec.Raw(value if added == "string" else b"[%b]" % bytes(value))
    elif found == "missing":
        holder[name] = msgspec.Raw(b"[%b]" % bytes(value))
    elif found == "array":
        _growing(holder, name).push(value)
    elif found == added == "string":
        _growing(holder, name).extend(value)
    else:
        raise Refusal(
            "type_mismatch",
            f"{_quoted(name)} is of type {found} and takes no {added}: arrays take any value, "
            "strings take strings",
        )


def _growing(holder: Members, name: str) -> _Growing:
    """The array or string called `name`, made ready to grow."""
    node = holder[name]
    if isinstance(node, _Growing):
        return node
    assert isinstance(node, msgspec.Raw)  # numbers and objects are the only other nodes
    grown = holder[name] = _Growing(kind_of(node), bytes(node))
    return grown


def _quoted(name: str) -> str:
    return f"`{name}`" if name else "root"
