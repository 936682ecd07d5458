"""The durable bindings there are, and when the ledger hears how far they have got."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from iii_state.core.bindings import Binding
from iii_state.core.checkpoints import Checkpoint
from iii_state.engine.alarms import Alarm, milliseconds
from iii_state.engine.followers import Follower
from iii_state.engine.ledgers import Definition, Ledger
from iii_state.engine.timers import Timers
from iii_state.errors import LimitExceeded

SAVE_MS = 100
"""How long an acknowledgement waits at most until it is written down."""

DURABLES_MAX = 10_000
DEFINITION_BYTES_MAX = 8 << 20
"""What all of them bind, together: each segment of a log begins with it."""

REVISIONS_BEHIND_MAX = 4096
"""How many changes that do not match are passed before that is written down."""


class Durables:
    """Durable bindings by name, each with the latest that was saved of it.

    `read_up_to` tells up to where one has read the feed; `saved` is told what is written down.
    """

    def __init__(
        self,
        ledger: Ledger,
        timers: Timers,
        read_up_to: Callable[[Follower], int],
        saved: Callable[[str, Checkpoint], None],
    ) -> None:
        self._ledger = ledger
        self._timers = timers
        self._read_up_to = read_up_to
        self._on_save = saved
        self._alarm = Alarm(timers, self.save)
        self._served: dict[str, Follower] = {}
        self._saved: dict[str, Checkpoint] = {}
        self._defined: dict[str, Definition] = {}
        self._moved: dict[str, Follower] = {}
        self._look_at = 0

    def get(self, name: str | None) -> Follower | None:
        """Who serves a name; None is nobody's."""
        return self._served.get(name) if name is not None else None

    @property
    def served(self) -> Collection[Follower]:
        """All of them, also those that nobody binds now."""
        return self._served.values()

    def definitions(self) -> Iterable[Definition]:
        """Those that an earlier process left."""
        self._defined = {each.name: each for each in self._ledger.definitions()}
        return list(self._defined.values())

    def require_room(self, binding: Binding) -> None:
        """Refuse a durable binding that would be one too many.

        Raises:
            LimitExceeded: there are too many, or they are too large together.
        """
        name = binding.config.durable
        if name is None:
            return
        others = [each for each in self._defined.values() if each.name != name]
        size = Definition.of(binding).size + sum(each.size for each in others)
        for limit, actual, bound in (
            ("durable_triggers_max", len(others) + 1, DURABLES_MAX),
            ("durable_triggers_bytes_max", size, DEFINITION_BYTES_MAX),
        ):
            if actual > bound:
                raise LimitExceeded(
                    f"The durable trigger {name!r} would make {limit} {actual}, more than {bound}; "
                    f"delete those that are not needed any more with state::triggers",
                    limit=limit,
                    actual=actual,
                    bound=bound,
                )

    def checkpoint(self, name: str) -> Checkpoint | None:
        """Where a binding that is not served yet is to go on."""
        return self._ledger.checkpoint(name)

    def initial_up_to(self, name: str) -> int | None:
        """The revision up to which revisions are those of entries; None if it began without."""
        definition = self._defined.get(name)
        return definition.initial_up_to if definition is not None else None

    def is_put_off(self, name: str) -> bool:
        """Whether a durable binding is known, but not served: it could not go on."""
        return name in self._defined and name not in self._served

    def keep(self, follower: Follower) -> None:
        """Write down how far a binding has got, if it is durable."""
        name = follower.binding.config.durable
        if name is not None:
            self._save(name, follower)

    def serve(self, follower: Follower) -> None:
        """Begin to serve a binding, if it is durable. Where it begins is written down."""
        name = follower.binding.config.durable
        if name is None:
            return
        self._served[name] = follower
        saved = self._ledger.checkpoint(name)
        if saved is not None:
            self._saved[name] = saved
        self._save(name, follower)

    def define(self, follower: Follower) -> None:
        """Write down what is bound, if that is not known yet."""
        name = follower.binding.config.durable
        definition = Definition.of(follower.binding, follower.initial_up_to)
        if name is not None and definition != self._defined.get(name):
            self._defined[name] = definition
            self._ledger.define(definition)

    def forget(self, name: str) -> None:
        """Forget a durable binding that is not served any more, for good."""
        self._defined.pop(name, None)
        self._ledger.forget(name)

    def drop(self, follower: Follower) -> None:
        """End to serve a binding, if it is durable; how far it has got is written down."""
        name = follower.binding.config.durable
        if name is not None:
            self._save(name, follower)
            del self._served[name]
            self._saved.pop(name, None)
            self._moved.pop(name, None)

    def moved(self, follower: Follower) -> None:
        """Note that a binding has something to write down, if it is durable."""
        name = follower.binding.config.durable
        if name is None or name in self._moved:
            return
        self._moved[name] = follower
        now_ms = milliseconds(self._timers)
        self._alarm.set(now_ms + SAVE_MS, now_ms)

    def passed(self, head: int) -> None:
        """Note that there are changes up to this revision."""
        if head >= self._look_at and self._served:
            self._look_at = head + REVISIONS_BEHIND_MAX
            for follower in self._served.values():
                self.moved(follower)

    def save(self) -> None:
        """Write down how far those have got that moved."""
        moved, self._moved = self._moved, {}
        for name, follower in moved.items():
            self._save(name, follower)

    def save_all(self) -> None:
        """Write down how far each has got."""
        self._moved |= self._served
        self.save()

    def _save(self, name: str, follower: Follower) -> None:
        checkpoint = follower.checkpoint(self._read_up_to(follower))
        if checkpoint != self._saved.get(name):
            self._saved[name] = checkpoint
            self._ledger.save(name, checkpoint)
        self._on_save(name, checkpoint)
