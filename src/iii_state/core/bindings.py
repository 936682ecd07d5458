"""Bindings: which function wants to hear of which changes.

The `BindingIndex` finds the bindings that a change matches by looking them up, however many others
there are. What cannot be looked up is asked of those that were found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from iii_state.core.binding_config import (
    CONFIG_MEMBERS,
    CONFIG_TYPE,
    EVENT_NAMES,
    BindingConfig,
    EventName,
    Retry,
)
from iii_state.core.changes import Change
from iii_state.core.event_view import EventView
from iii_state.core.values import equal

__all__ = [
    "CONFIG_MEMBERS",
    "CONFIG_TYPE",
    "EVENT_NAMES",
    "Binding",
    "BindingConfig",
    "BindingIndex",
    "EventName",
    "Retry",
    "alters",
    "event_name",
]

EXPIRED = "expired"
"""The cause of a change that was made by the end of a time to live."""

Item = TypeVar("Item")
Group = dict[int, Item]
"""Items by place."""


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


def event_name(change: Change) -> EventName:
    """What `events` calls a change. An expiry is `expired`, not `deleted`."""
    if change.entry is None:
        return "expired" if change.cause == EXPIRED else "deleted"
    return "created" if change.replaced is None else "updated"


def alters(change: Change) -> bool:
    """Whether the value is another JSON than before, or is there only before or after."""
    before, after = change.before, change.after
    if before is None or after is None:
        return before is not after
    return not equal(before, after)


class _Keys(Generic[Item]):
    """What is bound within one scope, or within any: to keys, to prefixes, to all keys."""

    __slots__ = ("_exact", "_lengths", "_prefixes", "_whole")

    def __init__(self) -> None:
        self._exact: dict[str, Group[Item]] = {}
        self._prefixes: dict[str, Group[Item]] = {}
        self._lengths: dict[int, int] = {}
        """How many prefixes there are of each length, so that only these lengths are tried."""
        self._whole: Group[Item] = {}

    def __bool__(self) -> bool:
        return bool(self._exact or self._prefixes or self._whole)

    def add(self, place: int, config: BindingConfig, item: Item) -> None:
        keys, prefix = config.selected_keys, config.key_prefix
        if keys is not None:
            for key in keys:
                self._exact.setdefault(key, {})[place] = item
        elif prefix:
            if prefix not in self._prefixes:
                self._prefixes[prefix] = {}
                self._lengths[len(prefix)] = self._lengths.get(len(prefix), 0) + 1
            self._prefixes[prefix][place] = item
        else:
            self._whole[place] = item

    def remove(self, place: int, config: BindingConfig) -> None:
        keys, prefix = config.selected_keys, config.key_prefix
        if keys is not None:
            for key in keys:
                _remove(self._exact, key, place)
        elif prefix:
            if _remove(self._prefixes, prefix, place):
                self._lengths[len(prefix)] -= 1
                if not self._lengths[len(prefix)]:
                    del self._lengths[len(prefix)]
        else:
            del self._whole[place]

    def find(self, key: str, groups: list[Group[Item]]) -> None:
        """Append the groups that a key belongs to. No place is in two of them."""
        if self._whole:
            groups.append(self._whole)
        if self._exact and (group := self._exact.get(key)):
            groups.append(group)
        if self._lengths:
            for length in self._lengths:
                if length <= len(key) and (group := self._prefixes.get(key[:length])):
                    groups.append(group)


_Scopes = dict[str | None, _Keys[Item]]
"""None: of any scope."""


class BindingIndex(Generic[Item]):
    """Finds what is bound to a change.

    Each item has a place, a number of its own; matches come in ascending order of it. Finding takes
    a dict look-up for each kind of selection that is in use, where each length of a prefix is a
    kind, and then time for what was found only. What was found is asked for `changed_only` and
    `filters`, which cannot be looked up.
    """

    def __init__(self) -> None:
        self._of_all_events: _Scopes[Item] = {}
        self._of_event: dict[EventName, _Scopes[Item]] = {}
        self._members: dict[int, tuple[BindingConfig, Item]] = {}
        self._asked: dict[int, BindingConfig] = {}
        """Those that are not selected by look-ups alone."""

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Item]:
        for _, item in self._members.values():
            yield item

    def add(self, place: int, config: BindingConfig, item: Item) -> None:
        """Add an item, instead of what was at its place."""
        self.remove(place)
        self._members[place] = config, item
        if config.changed_only or config.filters is not None:
            self._asked[place] = config
        for scopes in self._tables(config):
            _add(scopes, place, config, item)

    def remove(self, place: int) -> None:
        """Remove what is at a place, if anything is."""
        if place not in self._members:
            return
        config, _ = self._members.pop(place)
        self._asked.pop(place, None)
        for scopes in self._tables(config):
            _drop(scopes, place, config)

    def match(self, change: Change) -> list[Item]:
        """What is bound to this change, in ascending order of place."""
        scope, key = change.scope, change.key
        groups: list[Group[Item]] = []
        scopes = self._of_all_events
        if (keys := scopes.get(scope)) is not None:
            keys.find(key, groups)
        if (keys := scopes.get(None)) is not None:
            keys.find(key, groups)
        if self._of_event and (scopes := self._of_event.get(event_name(change), {})):
            for name in (scope, None):
                if (keys := scopes.get(name)) is not None:
                    keys.find(key, groups)
        if not groups:
            return []
        if len(groups) == 1 and len(groups[0]) == 1 and not self._asked:
            return list(groups[0].values())
        places = {place: item for group in groups for place, item in group.items()}
        if self._asked and not self._asked.keys().isdisjoint(places):
            self._ask(places, change)
        return [places[place] for place in sorted(places)]

    def _tables(self, config: BindingConfig) -> list[_Scopes[Item]]:
        """Where a binding is looked up; nowhere if no key can be right."""
        if config.selected_keys is not None and not config.selected_keys:
            return []
        if config.events is None:
            return [self._of_all_events]
        return [self._of_event.setdefault(name, {}) for name in config.events]

    def _ask(self, places: Group[Item], change: Change) -> None:
        """Take out those whose other conditions do not hold."""
        event = EventView(change)
        altered = None
        for place in self._asked.keys() & places.keys():
            config = self._asked[place]
            if config.changed_only:
                altered = alters(change) if altered is None else altered
                if not altered:
                    del places[place]
                    continue
            if config.filters is not None and not config.filters.matches(event):
                del places[place]


def _add(scopes: _Scopes[Item], place: int, config: BindingConfig, item: Item) -> None:
    keys = scopes.get(config.scope)
    if keys is None:
        keys = scopes[config.scope] = _Keys()
    keys.add(place, config, item)


def _drop(scopes: _Scopes[Item], place: int, config: BindingConfig) -> None:
    scopes[config.scope].remove(place, config)
    if not scopes[config.scope]:
        del scopes[config.scope]


def _remove(groups: dict[str, Group[Item]], name: str, place: int) -> bool:
    """Remove from a group; returns whether that was its last, so that it is gone."""
    del groups[name][place]
    if groups[name]:
        return False
    del groups[name]
    return True
