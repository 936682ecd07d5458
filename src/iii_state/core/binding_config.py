"""The config of a binding: which changes, from where on, and how they are delivered.

It is parsed once, when the binding is made. To add a member: a name in `CONFIG_MEMBERS`, a field of
`BindingConfig`, a line in `parse`; if it selects, `BindingIndex` has to heed it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final, Literal, get_args

import msgspec

from iii_state.core.filters import Filter
from iii_state.core.values import INT64_MAX, JsonText, decode_elements, decode_members, kind_of
from iii_state.errors import InvalidRequest

EventName = Literal["created", "updated", "deleted", "expired"]
"""What `events` can name. An expiry is `expired` and not `deleted`."""

CONFIG_TYPE = "StateTriggerConfig"
CONFIG_MEMBERS: Final = (
    "scope",
    "key",
    "condition_function_id",
    "key_prefix",
    "keys",
    "events",
    "changed_only",
    "filters",
    "from",
    "durable",
    "retry",
    "timeout_ms",
    "max_in_flight",
    "debounce_ms",
)
EVENT_NAMES: Final[tuple[EventName, ...]] = get_args(EventName)

KEYS_MAX: Final = 10_000
KEY_PREFIX_MAX: Final = 1024
"""Characters."""
DURABLE_NAME_MAX: Final = 200
"""Characters."""
ATTEMPTS_MAX: Final = 1000
DAY_MS: Final = 86_400_000
IN_FLIGHT_MAX: Final = 4096
DEBOUNCE_MS_MAX: Final = 3_600_000

_SHOWN_BYTES_MAX = 100
_HINTS_MAX = 8
_HINT_NAME_MAX = 64
"""Characters of a name that is compared with the known ones, which takes its square in time."""
_HINT_CLOSENESS = 0.75


class Retry(msgspec.Struct, frozen=True, gc=False):
    """How often a delivery is tried; the first wait in between, and the longest, in ms."""

    max_attempts: int = 10
    initial_ms: int = 200
    max_ms: int = 60_000


class BindingConfig(msgspec.Struct, frozen=True, gc=False):
    """Which changes, from where on, who is asked first, and how deliveries are made.

    A member that is `None` was not asked for: any scope, any key, nobody, the default. What selects
    has to hold all together. `from` becomes two: with `is_initial` the present entries come first;
    `start` is the revision after which deliveries start, None for now.

    `unknown` names members that mean nothing here, those of `retry` as `retry.name`. They are
    tolerated, since programs send members of their own, but may be misspelt, so they are shown.
    """

    scope: str | None = None
    key: str | None = None
    condition_function_id: str | None = None
    key_prefix: str | None = None
    keys: frozenset[str] | None = None
    events: frozenset[EventName] | None = None
    changed_only: bool = False
    filters: Filter | None = None
    start: int | None = None
    is_initial: bool = False
    durable: str | None = None
    retry: Retry | None = None
    timeout_ms: int | None = None
    max_in_flight: int | None = None
    debounce_ms: int | None = None
    unknown: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: bytes | None) -> BindingConfig:
        """Read a config from its JSON text; none at all counts as `{}`, and null as left out.

        Raises:
            InvalidRequest: it is not an object, or a member has the wrong type or is out of range.
            Its code is that of a refused registration.
        """
        if raw is None:
            return cls()
        if kind_of(raw) != "object":
            raise _refused(f"found {_found(raw)}, expected {CONFIG_TYPE} (an object)")
        members = decode_members(raw)
        retry, unknown_of_retry = _retry(members)
        start, is_initial = _from(members)
        return cls(
            scope=_optional_text(members, "scope"),
            key=_optional_text(members, "key"),
            condition_function_id=_optional_text(members, "condition_function_id"),
            key_prefix=_bounded_text(members, "key_prefix", 0, KEY_PREFIX_MAX),
            keys=_keys(members),
            events=_events(members),
            changed_only=_changed_only(members),
            filters=_filters(members),
            start=start,
            is_initial=is_initial,
            durable=_bounded_text(members, "durable", 1, DURABLE_NAME_MAX),
            retry=retry,
            timeout_ms=_optional_integer(members, "timeout_ms", 1, DAY_MS),
            max_in_flight=_optional_integer(members, "max_in_flight", 1, IN_FLIGHT_MAX),
            debounce_ms=_optional_integer(members, "debounce_ms", 1, DEBOUNCE_MS_MAX),
            unknown=(*(name for name in members if name not in _KNOWN), *unknown_of_retry),
        )

    @property
    def selected_keys(self) -> frozenset[str] | None:
        """The only keys that `key`, `keys` and `key_prefix` let through; None if not that few."""
        keys = self.keys
        if self.key is not None:
            keys = frozenset((self.key,)) if keys is None else keys & {self.key}
        if keys is None or self.key_prefix is None:
            return keys
        return frozenset(key for key in keys if key.startswith(self.key_prefix))

    @property
    def unknown_hint(self) -> str:
        """The unknown members for people, with what may have been meant; `""` if there are none.

        Such as `'scopes' (did you mean 'scope'?), 'note'`. Bounded, whatever was sent.
        """
        hints = [_hint(name) for name in self.unknown[:_HINTS_MAX]]
        if len(self.unknown) > _HINTS_MAX:
            hints.append(f"and {len(self.unknown) - _HINTS_MAX} more")
        return ", ".join(hints)


_KNOWN = frozenset(CONFIG_MEMBERS)
_KNOWN_OF_RETRY = frozenset(Retry.__struct_fields__)
_MEANT = (*CONFIG_MEMBERS, *(f"retry.{name}" for name in Retry.__struct_fields__))


def _optional_text(members: Mapping[str, JsonText], name: str) -> str | None:
    raw = _given(members, name)
    if raw is None:
        return None
    if kind_of(raw) == "string":
        return msgspec.json.decode(raw, type=str)
    raise _wrong(name, raw, "a string or null")


def _bounded_text(members: Mapping[str, JsonText], name: str, least: int, most: int) -> str | None:
    text = _optional_text(members, name)
    if text is not None and not least <= len(text) <= most:
        expected = f"a string of {least} to {most} characters, or null"
        raise _wrong(name, members[name], expected)
    return text


def _optional_integer(
    members: Mapping[str, JsonText], name: str, least: int, most: int, *, of: str = ""
) -> int | None:
    raw = _given(members, name)
    if raw is None:
        return None
    number = _integer(raw)
    if number is None or not least <= number <= most:
        raise _wrong(of + name, raw, f"an integer from {least} to {most}, or null")
    return number


def _keys(members: Mapping[str, JsonText]) -> frozenset[str] | None:
    raw = _given(members, "keys")
    if raw is None:
        return None
    keys = _texts(raw)
    if keys is None or not 1 <= len(keys) <= KEYS_MAX:
        raise _wrong("keys", raw, f"an array of 1 to {KEYS_MAX} strings, or null")
    return frozenset(keys)


def _events(members: Mapping[str, JsonText]) -> frozenset[EventName] | None:
    raw = _given(members, "events")
    if raw is None:
        return None
    names = _texts(raw)
    if not names or not set(names) <= set(EVENT_NAMES):
        choices = ", ".join(f'"{name}"' for name in EVENT_NAMES)
        found = bytes(raw).decode()[:_SHOWN_BYTES_MAX]
        raise _refused(f"`events` is {found}, expected an array of some of {choices}, or null")
    return frozenset(name for name in EVENT_NAMES if name in names)


def _changed_only(members: Mapping[str, JsonText]) -> bool:
    raw = _given(members, "changed_only")
    if raw is not None and kind_of(raw) != "boolean":
        raise _wrong("changed_only", raw, "true, false or null")
    return raw is not None and bytes(raw) == b"true"


def _filters(members: Mapping[str, JsonText]) -> Filter | None:
    raw = _given(members, "filters")
    if raw is None:
        return None
    try:
        return Filter.parse(raw)
    except InvalidRequest as invalid:
        raise _refused(f"`filters`: {invalid.wire_code}: {invalid.message}") from None


def _from(members: Mapping[str, JsonText]) -> tuple[int | None, bool]:
    """The revision to start after, and whether to start with the present entries."""
    raw = _given(members, "from")
    if raw is None or bytes(raw) == b'"now"':
        return None, False
    if bytes(raw) == b'"initial"':
        return None, True
    revision = _integer(raw)
    if revision is None or not 0 <= revision <= INT64_MAX:
        raise _wrong("from", raw, '"now", "initial", a revision (an integer from 0), or null')
    return revision, False


def _retry(members: Mapping[str, JsonText]) -> tuple[Retry | None, tuple[str, ...]]:
    """How to retry, and the names of members that mean nothing in there."""
    raw = _given(members, "retry")
    if raw is None:
        return None, ()
    if kind_of(raw) != "object":
        raise _wrong("retry", raw, "an object of max_attempts, initial_ms and max_ms, or null")
    asked = decode_members(raw)
    default = Retry()
    attempts = _optional_integer(asked, "max_attempts", 1, ATTEMPTS_MAX, of="retry.")
    initial_ms = _optional_integer(asked, "initial_ms", 1, DAY_MS, of="retry.")
    max_ms = _optional_integer(asked, "max_ms", 1, DAY_MS, of="retry.")
    retry = Retry(
        default.max_attempts if attempts is None else attempts,
        default.initial_ms if initial_ms is None else initial_ms,
        default.max_ms if max_ms is None else max_ms,
    )
    if retry.initial_ms > retry.max_ms:
        raise _refused(
            f"`retry.initial_ms` is {retry.initial_ms}, longer than `retry.max_ms`, which is "
            f"{retry.max_ms}; lower the first or raise the second"
        )
    return retry, tuple(f"retry.{name}" for name in asked if name not in _KNOWN_OF_RETRY)


def _given(members: Mapping[str, JsonText], name: str) -> JsonText | None:
    """A member as it was sent; None if it was left out, or is null."""
    raw = members.get(name)
    return None if raw is None or kind_of(raw) == "null" else raw


def _integer(raw: JsonText) -> int | None:
    """An integer within 64 bits that is written as one; else None."""
    try:
        return msgspec.json.decode(raw, type=int) if kind_of(raw) == "number" else None
    except msgspec.ValidationError:
        return None


def _texts(raw: JsonText) -> list[str] | None:
    """The elements of an array of strings; None if it is something else."""
    if kind_of(raw) != "array" or any(kind_of(item) != "string" for item in decode_elements(raw)):
        return None
    return msgspec.json.decode(raw, type=list[str])


def _hint(name: str) -> str:
    shown = repr(name if len(name) <= _HINT_NAME_MAX else name[:_HINT_NAME_MAX] + "...")
    if len(name) > _HINT_NAME_MAX:
        return shown
    meant = difflib.get_close_matches(name, _MEANT, n=1, cutoff=_HINT_CLOSENESS)
    return f"{shown} (did you mean {meant[0]!r}?)" if meant else shown


def _wrong(name: str, raw: JsonText, expected: str) -> InvalidRequest:
    return _refused(f"`{name}` is {_found(raw)}, expected {expected}")


def _refused(reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"Failed to parse trigger config: {reason}", code="trigger_registration_failed"
    )


def _found(raw: JsonText) -> str:
    """The JSON type, with the value where that is short to say."""
    kind = kind_of(raw)
    if kind in ("null", "array", "object"):
        return kind
    text = bytes(raw)
    shown = text if len(text) <= _SHOWN_BYTES_MAX else text[:_SHOWN_BYTES_MAX] + b"..."
    return f"{kind} {shown.decode(errors='ignore')}"
