"""How a binding's deliveries are made: how often, how long one may take, what waits for what."""

from __future__ import annotations

from typing import Final

import msgspec

from iii_state.core.bindings import BindingConfig, Retry

DURABLE_TIMEOUT_MS: Final = 30_000
DEBOUNCE_DELAYS_MAX: Final = 10
"""How many of its delays an event that is always followed by a newer one waits at most."""

DURABLE_INTERRUPTIONS_MAX: Final = 20
"""No series of restarts comes near by chance; an event that crashes its worker does."""

HOLD_MS: Final = 1000
"""How long a durable binding tries nothing when nobody runs its function."""

_RETRY: Final = Retry()
_DOUBLINGS_MAX: Final = 40
"""By then every wait is at its longest; more would only make large numbers."""


class Policy(msgspec.Struct, frozen=True, gc=False):
    """What a binding asked for. Times are in milliseconds.

    A delivery that fails is made again until it was tried `attempts_max` times; the waits before
    it double from `initial_ms` to `max_ms`. One that ran for `timeout_ms` has failed. With
    `debounce_ms`, an event waits that long for a newer one of its key, which then stands for both.
    With `waits_for_function`, a function that nobody runs is waited for; else that is a failure.
    """

    attempts_max: int = 1
    initial_ms: int = _RETRY.initial_ms
    max_ms: int = _RETRY.max_ms
    timeout_ms: int | None = None
    debounce_ms: int | None = None
    waits_for_function: bool = False

    @classmethod
    def of(cls, config: BindingConfig) -> Policy:
        """The policy that a config asks for.

        A plain binding tries once unless it has a `retry`, a durable one as often as `Retry` says,
        each time for half a minute.
        """
        is_durable = config.durable is not None
        retry = config.retry if config.retry is not None else _RETRY
        timeout_ms = config.timeout_ms
        if timeout_ms is None and is_durable:
            timeout_ms = DURABLE_TIMEOUT_MS
        return cls(
            attempts_max=retry.max_attempts if config.retry is not None or is_durable else 1,
            initial_ms=retry.initial_ms,
            max_ms=retry.max_ms,
            timeout_ms=timeout_ms,
            debounce_ms=config.debounce_ms,
            waits_for_function=is_durable,
        )

    @property
    def is_timed(self) -> bool:
        """Whether anything of it depends on time."""
        return (
            self.attempts_max > 1
            or self.timeout_ms is not None
            or self.debounce_ms is not None
            or self.waits_for_function
        )

    def wait_ms(self, failures: int, jitter: float) -> int:
        """How long to wait after that many failures in a row, at least one.

        `jitter`, from 0 to 1, takes off up to half, so that what failed together does not come
        back together.
        """
        longest = min(self.initial_ms << min(failures - 1, _DOUBLINGS_MAX), self.max_ms)
        return longest - int(longest * jitter / 2)


ONCE: Final = Policy()
"""That of a plain binding which asks for nothing: one try, however long it takes."""
