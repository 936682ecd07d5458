"""The bounds of names and values, as the settings draw them."""

from __future__ import annotations

from iii_state.core import values
from iii_state.core.names import shortened
from iii_state.errors import InvalidRequest, LimitExceeded
from iii_state.settings import Settings

TTL_MS_MAX = 1 << 48
"""Some 9,000 years."""


class Bounds:
    """What a write is held against before it is carried out.

    A request that has no more than `harmless_bytes` breaks none of them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # A value needs two bytes a level.
        self.harmless_bytes = min(
            settings.name_bytes_max,
            settings.value_bytes_max,
            2 * settings.nesting_max,
            0 if settings.max_value_bytes is not None else settings.value_bytes_max,
        )

    def check_names(self, scope: str, key: str) -> None:
        """Refuse names that are too long.

        Raises:
            LimitExceeded: one of them is.
        """
        bound = self._settings.name_bytes_max
        for what, name in (("scope", scope), ("key", key)):
            if 4 * len(name) <= bound:  # no character has more bytes
                continue
            size = len(name.encode())
            if size > bound:
                raise LimitExceeded(
                    f"The {what} has {size} bytes, more than name_bytes_max = {bound}; "
                    f"nothing changed",
                    limit="name_bytes_max",
                    actual=size,
                    bound=bound,
                )

    def check_value(self, value: bytes) -> None:
        """Refuse a value that is too large, or nests too deep.

        Raises:
            LimitExceeded, InvalidRequest: it is, or does.
        """
        settings = self._settings
        if len(value) > settings.value_bytes_max:
            raise _value_too_large("value_bytes_max", len(value), settings.value_bytes_max)
        values.check_value(value, settings.nesting_max)
        if settings.max_value_bytes is not None:
            size = values.compact_size(value)
            if size > settings.max_value_bytes:
                raise _value_too_large("max_value_bytes", size, settings.max_value_bytes)


def _value_too_large(limit: str, actual: int, bound: int) -> LimitExceeded:
    return LimitExceeded(
        f"The value has {actual} bytes, more than {limit} = {bound}; nothing changed",
        code="VALUE_TOO_LARGE",
        limit=limit,
        actual=actual,
        bound=bound,
    )


def require_ttl(ttl_ms: int) -> int:
    """Refuse a length of time in which nothing can live.

    Raises:
        InvalidRequest: it is not positive, or longer than any clock.
    """
    if not 0 < ttl_ms <= TTL_MS_MAX:
        raise InvalidRequest(
            f"`ttl_ms` is {shortened(str(ttl_ms))}, expected a positive number of milliseconds, at "
            f"most {TTL_MS_MAX}"
        )
    return ttl_ms
