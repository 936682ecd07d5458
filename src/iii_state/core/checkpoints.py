"""Checkpoints: how far a durable binding has got, in the form in which it is written down."""

from __future__ import annotations

import msgspec


class Pending(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True):
    """An event at or below a cursor that is still to be delivered, and what it went through.

    `attempt` is the number of the next delivery. See `Delivery` for the others.
    """

    revision: int
    attempt: int = 1
    failures: int = 0
    interruptions: int = 0
    redriven: bool = False


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """Everything up to `cursor` is done, given up or `pending`; nothing above it was tried yet.

    Read anew from here, only what ended since it was made is delivered twice. `pending` ascends.
    """

    cursor: int
    pending: tuple[Pending, ...] = ()
    paused: bool = False
