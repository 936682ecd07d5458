"""Filters: iii's filter language, version 1, asked of the event of a change.

A filter is parsed once into nested tests. Asking it reads only what its paths lead to, and never
fails: where a value cannot be read, the filter does not match.

The language: an object of clauses that must all hold. A clause is a path with operators
(`{"input.new_value.total": {"$gt": 10}}`), or `$and`, `$or`, `$not`. Of its roots only `input`, the
event, is there; what is under `output`, `error`, `caller` and `metadata` counts as absent. To add
an operator: a row in `_OPERATORS`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from iii_state.core.event_view import ABSENT_ROOTS, EventView, Path, Tree
from iii_state.core.values import (
    JsonText,
    compact_size,
    decode_elements,
    decode_members,
    kind_of,
    nests_deeper_than,
)
from iii_state.errors import InvalidRequest

INVALID_FILTER: Final = "INVALID_FILTER"

DEPTH_MAX: Final = 8
NODES_MAX: Final = 64
SEGMENTS_MAX: Final = 16
BYTES_MAX: Final = 8192
CHOICES_MAX: Final = 256
NUMBER_MAX: Final = 2**53
LITERAL_NESTING_MAX: Final = 32
NESTING_MAX: Final = 120

_ROOTS: Final = ABSENT_ROOTS | {"input"}
_ELEMENT: Final = frozenset({"@"})
_SEGMENT: Final = re.compile(r"(?:[^.\\]|\\[.\\])+", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_SHOWN_CHARACTERS_MAX: Final = 100

Test = Callable[[JsonText], bool]
"""Asks a value that is there."""
Question = Callable[[JsonText | None], bool]
"""Asks a value; None means absent."""


class Filter:
    """A parsed filter. Two are equal when their texts are, but for the space between tokens."""

    __slots__ = ("_clause", "text")

    def __init__(self, text: bytes, clause: Clause) -> None:
        self.text = text
        self._clause = clause

    @classmethod
    def parse(cls, raw: JsonText) -> Filter:
        """Read a filter from its JSON text.

        Raises:
            InvalidRequest: it breaks a rule of the language; its code is `INVALID_FILTER`.
        """
        text = bytes(raw)
        if nests_deeper_than(text, NESTING_MAX):
            raise _invalid(f"it nests more than {NESTING_MAX} levels deep")
        try:
            clauses = msgspec.json.decode(text)
        except msgspec.DecodeError as failure:
            raise _invalid(f"it cannot be read as JSON: {failure}") from None
        size = compact_size(text)
        if size > BYTES_MAX:
            raise _invalid(f"it takes {size} bytes, more than the {BYTES_MAX} that are allowed")
        clause = _Parser().clauses(clauses, 1, _ROOTS)
        return cls(msgspec.json.format(text, indent=-1), clause)

    def matches(self, event: EventView) -> bool:
        """Whether the filter holds for an event. Never raises."""
        try:
            return self._clause(event)
        except (msgspec.MsgspecError, LookupError, ValueError, RecursionError):
            return False  # what cannot be read matches nothing, whatever is negated

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"


Clause = Callable[[Tree], bool]


class _Parser:
    """Makes tests of a decoded filter, and counts its nodes."""

    def __init__(self) -> None:
        self._nodes = 0

    def clauses(self, clauses: Any, depth: int, roots: frozenset[str]) -> Clause:
        """A filter, whose paths begin at one of `roots`."""
        _check_depth(depth)
        if not isinstance(clauses, dict):
            raise _invalid("a filter is an object of paths, $and, $or and $not")
        tests = [self._clause(name, operand, depth, roots) for name, operand in clauses.items()]
        return tests[0] if len(tests) == 1 else lambda tree: all(test(tree) for test in tests)

    def _clause(self, name: str, operand: Any, depth: int, roots: frozenset[str]) -> Clause:
        if name == "$not":
            self._count()
            inner = self.clauses(operand, depth + 1, roots)
            return lambda tree: not inner(tree)
        if name in ("$and", "$or"):
            return self._junction(name, operand, depth, roots)
        path = _path(name, roots)
        question = self._operators(operand, depth, name)
        return lambda tree: question(tree.at(path))

    def _junction(self, name: str, operand: Any, depth: int, roots: frozenset[str]) -> Clause:
        if not isinstance(operand, list) or not operand:
            raise _invalid(f"{name} takes an array of one or more filters")
        if name == "$and":
            every = [self.clauses(item, depth, roots) for item in operand]
            return lambda tree: all(test(tree) for test in every)
        self._count()
        some = [self.clauses(item, depth + 1, roots) for item in operand]
        return lambda tree: any(test(tree) for test in some)

    def _operators(self, operators: Any, depth: int, where: str) -> Question:
        if not isinstance(operators, dict) or not operators:
            raise _invalid('expected one or more operators, such as {"$eq": 1}', where)
        questions = []
        for name, operand in operators.items():
            self._count()
            if name == "$any":
                questions.append(self._any(operand, depth + 1, where))
            elif name in _OPERATORS:
                questions.append(_OPERATORS[name](operand, f"{_shown(where)}: {name}"))
            else:
                known = ", ".join((*_OPERATORS, "$any"))
                raise _invalid(f"{_shown(name)} is no operator; there are {known}", where)
        if len(questions) == 1:
            return questions[0]
        return lambda raw: all(question(raw) for question in questions)

    def _any(self, operand: Any, depth: int, where: str) -> Question:
        """Whether a value is an array with an element that `operand` holds for."""
        _check_depth(depth)
        if isinstance(operand, dict) and any(n in _OPERATORS or n == "$any" for n in operand):
            question = self._operators(operand, depth, f"{where} $any")
            return lambda raw: any(question(element) for element in _elements(raw))
        inner = self.clauses(operand, depth, _ELEMENT)
        return lambda raw: any(inner(Tree({("@",): element})) for element in _elements(raw))

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _invalid(f"it has more than {NODES_MAX} operators")


def _check_depth(depth: int) -> None:
    if depth > DEPTH_MAX:
        raise _invalid(f"$or, $not and $any go more than {DEPTH_MAX} levels deep")


def _path(text: str, roots: frozenset[str]) -> Path:
    segments = []
    end = -1
    while end < len(text):
        found = _SEGMENT.match(text, end + 1)
        if found is None or text[found.end() : found.end() + 1] not in ("", "."):
            raise _invalid(
                "a path is names with dots between them, none of them empty; "
                "in a name, a dot is written \\. and a backslash \\\\",
                text,
            )
        segments.append(_ESCAPED.sub(r"\1", found[0]))
        end = found.end()
    if segments[0] not in roots:
        choices = ", ".join(sorted(roots))
        raise _invalid(f"a path begins with one of {choices}; or meant is $and, $or, $not", text)
    if len(segments) - 1 > SEGMENTS_MAX:
        raise _invalid(f"a path has at most {SEGMENTS_MAX} names after its first", text)
    return tuple(segments)


def _equality(operand: Any, where: str) -> Question:
    _check_literal(operand, LITERAL_NESTING_MAX, where)
    test = _equal_to(operand)
    return lambda raw: raw is not None and test(raw)


def _membership(operand: Any, where: str) -> Question:
    if not isinstance(operand, list) or len(operand) > CHOICES_MAX:
        raise _invalid(f"expected an array of at most {CHOICES_MAX} values", where)
    for item in operand:
        _check_literal(item, LITERAL_NESTING_MAX, where)
    texts = frozenset(item for item in operand if isinstance(item, str))
    numbers = frozenset(float(item) for item in operand if _is_number(item))
    others = [_equal_to(i) for i in operand if not isinstance(i, str) and not _is_number(i)]

    def ask(raw: JsonText | None) -> bool:
        if raw is None:
            return False
        if (text := _text(raw)) is not None:
            return text in texts
        if (number := _number(raw)) is not None:
            return number in numbers
        return any(test(raw) for test in others)

    return ask


def _negation(of: Callable[[Any, str], Question]) -> Callable[[Any, str], Question]:
    def parse(operand: Any, where: str) -> Question:
        question = of(operand, where)
        return lambda raw: not question(raw)

    return parse


def _order(compare: Callable[[Any, Any], bool]) -> Callable[[Any, str], Question]:
    def parse(operand: Any, where: str) -> Question:
        if isinstance(operand, str):
            return lambda raw: (text := _text(raw)) is not None and compare(text, operand)
        if not _is_number(operand):
            raise _invalid("expected a number or a string", where)
        _check_literal(operand, 0, where)
        bound = float(operand)
        return lambda raw: (number := _number(raw)) is not None and compare(number, bound)

    return parse


def _presence(operand: Any, where: str) -> Question:
    if not isinstance(operand, bool):
        raise _invalid("expected true or false", where)
    return lambda raw: (raw is not None) is operand


def _beginning(operand: Any, where: str) -> Question:
    if not isinstance(operand, str):
        raise _invalid("expected a string", where)
    return lambda raw: (text := _text(raw)) is not None and text.startswith(operand)


_OPERATORS: Final[dict[str, Callable[[Any, str], Question]]] = {
    "$eq": _equality,
    "$ne": _negation(_equality),
    "$in": _membership,
    "$nin": _negation(_membership),
    "$gt": _order(operator.gt),
    "$gte": _order(operator.ge),
    "$lt": _order(operator.lt),
    "$lte": _order(operator.le),
    "$exists": _presence,
    "$prefix": _beginning,
}
"""From the operand and where it stands to a question. `$any` is the parser's: it nests."""


def _equal_to(literal: Any) -> Test:
    """A test for the same JSON: numbers as doubles, no order of members, types never mixed."""
    if isinstance(literal, str):
        return lambda raw: _text(raw) == literal
    if _is_number(literal):
        number = float(literal)
        return lambda raw: _number(raw) == number
    if isinstance(literal, list):
        tests = [_equal_to(item) for item in literal]
        return lambda raw: (
            kind_of(raw) == "array"
            and len(elements := decode_elements(raw)) == len(tests)
            and all(test(element) for test, element in zip(tests, elements, strict=True))
        )
    if isinstance(literal, dict):
        by_name = {name: _equal_to(item) for name, item in literal.items()}
        return lambda raw: (
            kind_of(raw) == "object"
            and (members := decode_members(raw)).keys() == by_name.keys()
            and all(test(members[name]) for name, test in by_name.items())
        )
    constant = msgspec.json.encode(literal)
    return lambda raw: bytes(raw) == constant


def _check_literal(literal: Any, nesting_max: int, where: str) -> None:
    if isinstance(literal, list | dict):
        if not nesting_max:
            raise _invalid(f"a value nests at most {LITERAL_NESTING_MAX} levels", where)
        for item in literal.values() if isinstance(literal, dict) else literal:
            _check_literal(item, nesting_max - 1, where)
    elif _is_number(literal) and abs(literal) > NUMBER_MAX:
        raise _invalid("a number is at most 2^53 and at least -2^53, to be exact", where)


def _is_number(literal: Any) -> bool:
    return isinstance(literal, int | float) and not isinstance(literal, bool)


def _text(raw: JsonText | None) -> str | None:
    """The text of a string; None if it is something else, or absent."""
    if raw is None or kind_of(raw) != "string":
        return None
    return msgspec.json.decode(raw, type=str)


def _number(raw: JsonText | None) -> float | None:
    """A number as a double, infinite where none can hold it; None if it is something else."""
    return None if raw is None or kind_of(raw) != "number" else float(bytes(raw))


def _elements(raw: JsonText | None) -> Sequence[JsonText]:
    return () if raw is None or kind_of(raw) != "array" else decode_elements(raw)


def _invalid(reason: str, where: str = "") -> InvalidRequest:
    return InvalidRequest(f"{_shown(where)}: {reason}" if where else reason, code=INVALID_FILTER)


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:_SHOWN_CHARACTERS_MAX] + "..."
