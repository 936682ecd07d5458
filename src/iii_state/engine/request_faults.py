"""What is wrong with a request that does not decode, and what it may hold instead."""

from __future__ import annotations

import re
from typing import Any

from msgspec import inspect

from iii_state.core.names import quoted

_NOT_ALLOWED = re.compile(r"Invalid enum value '(.*)' - at `\$\.?(.*)`", re.DOTALL)
_STEP = re.compile(r"([^.\[\]]+)|\[[^\]]*\]")


def fault_of(request: type, error: Exception) -> str:
    """The sentence for an error that decoding to the type `request` raised.

    That is the decoder's own, but for a word that is none of those allowed: it does not name them.
    """
    match = _NOT_ALLOWED.fullmatch(str(error))
    if match is None:
        return str(error)
    found, path = match.groups()
    choices = ", ".join(map(str, _choices(inspect.type_info(request), path)))
    return f"`{path}` is {quoted(found)}, expected one of {choices}"


def _choices(kind: Any, path: str) -> tuple[object, ...]:
    """The words that are allowed at a path into a type."""
    for step in _STEP.finditer(path):
        kind = _without_null(kind)
        if step[1] is None:
            kind = kind.item_type
        else:
            kind = next(field.type for field in kind.fields if field.encode_name == step[1])
    values: tuple[object, ...] = _without_null(kind).values
    return values


def _without_null(kind: Any) -> Any:
    if not isinstance(kind, inspect.UnionType):
        return kind
    return next(each for each in kind.types if not isinstance(each, inspect.NoneType))
