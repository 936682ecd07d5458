"""Bindings: which function wants to hear of which changes.

A config is parsed once, when it is bound; the `BindingIndex` then finds the bindings that a change
matches by looking them up, however many others there are. To add a member to the config: a field of
`BindingConfig`, a line in `parse`; if it selects, an arm in the index.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from iii_state.core.changes import Change
from iii_state.core.values import JsonText, decode_members, kind_of
from iii_state.errors import InvalidRequest

Item = TypeVar("Item")

CONFIG_TYPE = "StateTriggerConfig"
_SHOWN_BYTES_MAX = 100


class BindingConfig(msgspec.Struct, frozen=True, gc=False):
    """Which changes, and who is asked first. `None` means any scope, any key, nobody.

    `unknown` names members that mean nothing here. They are tolerated, since programs send members
    of their own, but may be misspelt, so they are shown.
    """

    scope: str | None = None
    key: str | None = None
    condition_function_id: str | None = None
    unknown: tuple[str, ...] = ()

    @classmethod
    def parse(cls, raw: bytes | None) -> BindingConfig:
        """Read a config from its JSON text; none at all counts as `{}`.

        Raises:
            InvalidRequest: it is not an object, or a member has the wrong type.
            Its code is that of a refused registration.
        """
        if raw is None:
            return cls()
        if kind_of(raw) != "object":
            raise _refused(f"found {_found(raw)}, expected {CONFIG_TYPE} (an object)")
        members = decode_members(raw)
        return cls(
            scope=_optional_text(members, "scope"),
            key=_optional_text(members, "key"),
            condition_function_id=_optional_text(members, "condition_function_id"),
            unknown=tuple(name for name in members if name not in _KNOWN),
        )


_KNOWN = frozenset(BindingConfig.__struct_fields__) - {"unknown"}


class Binding(msgspec.Struct, frozen=True, gc=False):
    """A function that is called for the changes that a config selects.

    `id` is chosen by the binder and kept over reconnects. The function is looked up in `namespace`
    when it is called. `raw_config` and `metadata` are JSON texts as the binder sent them. Changes
    after `from_revision` are delivered.
    """

    id: str
    function_id: str
    namespace: str
    config: BindingConfig
    raw_config: bytes | None
    metadata: bytes | None
    from_revision: int

    def continues(self, earlier: Binding) -> bool:
        """Whether this is the earlier binding again, so that it goes on where that one was."""
        return (
            self.config == earlier.config
            and self.function_id == earlier.function_id
            and self.namespace == earlier.namespace
        )


class BindingIndex(Generic[Item]):
    """Finds what is bound to a change.

    Each item has a place, a number of its own; matches come in ascending order of it. Finding takes
    one dict look-up for each kind of selection that is in use, and then time for the matches only.
    """

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], dict[int, Item]] = {}
        self._by_scope: dict[str, dict[int, Item]] = {}
        self._by_key: dict[str, dict[int, Item]] = {}
        self._any: dict[int, Item] = {}
        self._configs: dict[int, BindingConfig] = {}

    def __len__(self) -> int:
        return len(self._configs)

    def __iter__(self) -> Iterator[Item]:
        for place, config in self._configs.items():
            yield self._group(config)[place]

    def add(self, place: int, config: BindingConfig, item: Item) -> None:
        """Add an item, instead of what was at its place."""
        self.remove(place)
        self._configs[place] = config
        self._group(config)[place] = item

    def remove(self, place: int) -> None:
        """Remove what is at a place, if anything is."""
        config = self._configs.pop(place, None)
        if config is None:
            return
        group = self._group(config)
        del group[place]
        if group:
            return
        if config.scope is not None and config.key is not None:
            del self._exact[(config.scope, config.key)]
        elif config.scope is not None:
            del self._by_scope[config.scope]
        elif config.key is not None:
            del self._by_key[config.key]

    def match(self, change: Change) -> list[Item]:
        """What is bound to this change, in ascending order of place."""
        groups = []
        if self._exact and (group := self._exact.get((change.scope, change.key))):
            groups.append(group)
        if self._by_scope and (group := self._by_scope.get(change.scope)):
            groups.append(group)
        if self._by_key and (group := self._by_key.get(change.key)):
            groups.append(group)
        if self._any:
            groups.append(self._any)
        if not groups:
            return []
        if len(groups) == 1 and len(groups[0]) == 1:
            return list(groups[0].values())
        places = {place: item for group in groups for place, item in group.items()}
        return [places[place] for place in sorted(places)]

    def _group(self, config: BindingConfig) -> dict[int, Item]:
        scope, key = config.scope, config.key
        if scope is not None and key is not None:
            return self._exact.setdefault((scope, key), {})
        if scope is not None:
            return self._by_scope.setdefault(scope, {})
        if key is not None:
            return self._by_key.setdefault(key, {})
        return self._any


def _optional_text(members: dict[str, msgspec.Raw], name: str) -> str | None:
    raw = members.get(name)
    if raw is None or kind_of(raw) == "null":
        return None
    if kind_of(raw) == "string":
        return msgspec.json.decode(raw, type=str)
    raise _refused(f"`{name}` is {_found(raw)}, expected a string or null")


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
