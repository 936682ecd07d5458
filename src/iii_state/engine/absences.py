"""Which durable bindings wait for a function that nobody runs."""

from __future__ import annotations

from iii_state.engine.followers import Follower

Place = tuple[str, str]
"""A namespace, and the id of a function in it."""


class Absences:
    """The followers that hold their deliveries back, by the functions that they call."""

    def __init__(self) -> None:
        self._waiting: dict[Place, dict[Follower, None]] = {}

    def begin(self, follower: Follower) -> None:
        """Note that a follower waits, if it does."""
        if follower.deliveries.is_held:
            for place in _places(follower):
                self._waiting.setdefault(place, {})[follower] = None

    def end(self, follower: Follower) -> None:
        """Note that a follower waits no longer, if it did."""
        for place in _places(follower):
            waiting = self._waiting.get(place)
            if waiting is not None:
                waiting.pop(follower, None)
                if not waiting:
                    del self._waiting[place]

    def waiting(self, namespace: str, function_id: str) -> list[Follower]:
        """Who waits for a function, or for another one that it calls beside it."""
        return list(self._waiting.get((namespace, function_id), ()))


def _places(follower: Follower) -> list[Place]:
    binding = follower.binding
    called = binding.function_id, binding.config.condition_function_id
    return [(binding.namespace, each) for each in called if each is not None]
