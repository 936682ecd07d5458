"""What a value is: JSON text, kept exactly as it was sent.

A value is the UTF-8 bytes of one JSON text. Member order, spaces, escapes and the text of numbers
stay as they came, so a number may have any size and precision here: `1.10`, `1e400` and an integer
of a hundred digits go out as they came in, and it is up to whoever reads them what they become.
Numbers turn into machine numbers only where something calculates or compares (`read_number`,
`equal`).

Every function takes text that the decoder of the request has already found to be well-formed JSON
without lone surrogates and without space around it, as a `msgspec.Raw` is.
"""

from __future__ import annotations

import math
import re
from itertools import accumulate
from typing import Final, Literal

import msgspec

from iii_state.errors import InvalidRequest

JsonText = bytes | msgspec.Raw
Kind = Literal["null", "boolean", "number", "string", "array", "object"]

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1
UINT64_MAX: Final = 2**64 - 1

EXACT_DIGITS_MAX: Final = 400
"""An integer with more digits is beyond every double, so that comparing needs only its text."""

_KINDS: Final[dict[int, Kind]] = {
    **dict.fromkeys(b"-0123456789", "number"),
    **dict.fromkeys(b"tf", "boolean"),
    ord("n"): "null",
    ord('"'): "string",
    ord("["): "array",
    ord("{"): "object",
}

_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_BRACKET_STEPS: Final = {ord("["): 1, ord("]"): -1}
_BRACES_AS_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b'[]{}"'))

_encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode
_decode_number = msgspec.json.Decoder(int | float).decode
_decode_texts = msgspec.json.Decoder(list[str]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode


def encode_text(text: str) -> bytes:
    """The JSON string for `text`, which must not hold lone surrogates."""
    return _encode(text)


def kind_of(raw: JsonText) -> Kind:
    """The JSON type of a value, from its first byte."""
    return _KINDS[raw[0] if type(raw) is bytes else memoryview(raw)[0]]


def decode_members(raw: JsonText) -> dict[str, msgspec.Raw]:
    """The members of an object, in order, their values unread; of equal names the last wins."""
    return _decode_members(raw)


def decode_elements(raw: JsonText) -> list[msgspec.Raw]:
    """The elements of an array, unread."""
    return _decode_elements(raw)


def nesting_of(raw: JsonText) -> int:
    """How deep containers nest: 0 for a scalar, 1 for `{}` and `[]`. Linear, no recursion."""
    text = bytes(raw)
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    # What is left are brackets and the quotes around strings. Most strings are now two quotes side
    # by side; to drop any two such quotes leaves all else as much inside or outside as it was.
    structure = text.translate(_BRACES_AS_BRACKETS, _NOT_STRUCTURE).replace(b'""', b"")
    brackets = b"".join(structure.split(b'"')[::2])
    levels = 0
    while brackets:
        shorter = brackets.replace(b"[]", b"")  # every innermost level at once
        if 2 * len(shorter) > len(brackets):  # more deep than wide: count the rest one by one
            return levels + max(accumulate(map(_BRACKET_STEPS.__getitem__, brackets)))
        brackets = shorter
        levels += 1
    return levels


def nests_deeper_than(raw: bytes, nesting_max: int) -> bool:
    """Whether containers nest deeper than `nesting_max`; reads closely only what may well do."""
    if len(raw) <= 2 * nesting_max:
        return False
    # To take brackets out is the fastest way to count them: `replace` finds the next one with
    # `memchr`, `count` looks at every byte.
    most = nesting_max + 1
    rest = len(raw.replace(b"[", b"", most)) + len(raw.replace(b"{", b"", most))
    return 2 * len(raw) - rest > nesting_max and nesting_of(raw) > nesting_max


def check_value(raw: bytes, nesting_max: int) -> None:
    """Refuse a value whose containers nest too deep.

    Raises:
        InvalidRequest: they nest deeper than `nesting_max`.
    """
    if nests_deeper_than(raw, nesting_max):
        raise InvalidRequest(
            f"the value nests {nesting_of(raw)} levels of arrays and objects, more than the "
            f"{nesting_max} that are allowed; flatten it or split it over several keys"
        )


def compact_size(raw: JsonText) -> int:
    """Bytes of the value written without spaces and with no more escapes than JSON needs.

    This is what `max_value_bytes` is compared with. Numbers count as written, since that is how
    they are kept.
    """
    compact = msgspec.json.format(bytes(raw), indent=-1)
    if b"\\" not in compact:
        return len(compact)
    strings = b"[%b]" % b",".join(_STRING.findall(compact))
    return len(compact) - len(strings) + len(_encode(_decode_texts(strings)))


def read_number(raw: JsonText) -> int | float | None:
    """The number that a calculation starts from; None if the value is not a number.

    An integer within -2^63 to 2^64-1 is an `int`, everything else a `float`: also wider integers
    and `-0`. What no double can hold is infinite.
    """
    try:
        number = _decode_number(raw)
    except msgspec.ValidationError:  # not a number, or one that no double can hold
        return float(bytes(raw)) if kind_of(raw) == "number" else None
    if type(number) is float or (number and INT64_MIN <= number <= UINT64_MAX):
        return number
    text = bytes(raw)
    return 0 if text == b"0" else float(text)


def equal(a: JsonText, b: JsonText) -> bool:
    """Whether two values are the same JSON, however they are written.

    The order of members does not matter, that of elements does; types are never mixed (`true` is
    not `1`). Numbers are compared as doubles, so `1` equals `1.0` and `0.1` equals `0.10`; but
    integers are compared exactly, with each other and with doubles, so nothing is lost beyond
    2^53. A number that no double can hold equals only its own text. No recursion.
    """
    pairs: list[tuple[JsonText, JsonText]] = [(a, b)]
    while pairs:
        left, right = pairs.pop()
        if bytes(left) == bytes(right):
            continue
        kind = kind_of(left)
        if kind != kind_of(right):
            return False
        if kind == "object":
            ours, theirs = decode_members(left), decode_members(right)
            if ours.keys() != theirs.keys():
                return False
            pairs.extend((value, theirs[name]) for name, value in ours.items())
        elif kind == "array":
            elements, others = decode_elements(left), decode_elements(right)
            if len(elements) != len(others):
                return False
            pairs.extend(zip(elements, others, strict=True))
        elif not _scalars_equal(kind, bytes(left), bytes(right)):
            return False
    return True


def _scalars_equal(kind: Kind, a: bytes, b: bytes) -> bool:
    """Whether two scalars of one kind that are written differently are the same."""
    if kind == "string":
        return _decode_text(a) == _decode_text(b)
    if kind == "number":
        x, y = _exact_number(a), _exact_number(b)
        return x == y and abs(x) != math.inf
    return False


def _exact_number(text: bytes) -> int | float:
    if len(text) <= EXACT_DIGITS_MAX and text.lstrip(b"-").isdigit():
        return int(text)
    return float(text)
