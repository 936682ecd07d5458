"""Text from a worker to a `Frame`, or to a `Registration`.

One flat struct serves all calls and results, another all registrations: members that a type does
not use are left at their defaults. JSON values that only pass through (`data`, `result`, `config`,
...) stay raw text. A member that is `null` counts as absent, except `data`.

Source: docs/protocol.md, frame catalogue.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

ABSENT = Raw()
"""A raw member that was not sent."""

NULL = Raw(b"null")


class Action(msgspec.Struct, frozen=True, gc=False):
    """How a call is to be made: `void` wants no answer, `enqueue` names a queue."""

    type: str
    queue: str | None = None


class FailureBody(msgspec.Struct, frozen=True, gc=False):
    """The error of a result, as workers send it."""

    code: str
    message: str
    stacktrace: str | None = None


class Frame(msgspec.Struct, gc=False):
    """Any message, as far as calls and results need it."""

    type: str
    invocation_id: str | None = None
    function_id: str | None = None
    data: Raw = NULL
    action: Action | None = None
    namespace: str | None = None
    metadata: Raw = ABSENT
    traceparent: str | None = None
    baggage: str | None = None
    result: Raw = ABSENT
    error: FailureBody | None = None


class Registration(msgspec.Struct, gc=False):
    """A message that registers or unregisters something, or reattaches."""

    type: str
    id: str | None = None
    function_id: str | None = None
    namespace: str | None = None
    metadata: Raw = ABSENT
    description: str | None = None
    request_format: Raw = ABSENT
    response_format: Raw = ABSENT
    invocation: Raw = ABSENT
    trigger_type: str | None = None
    trigger_namespace: str | None = None
    config: Raw = ABSENT
    trigger_request_format: Raw = ABSENT
    call_request_format: Raw = ABSENT
    error: FailureBody | None = None
    previous_worker_id: str | None = None
    reattach_token: str | None = None


decode_frame = msgspec.json.Decoder(Frame).decode
"""Decodes one message; raises what `UNDECODABLE` lists."""

decode_registration = msgspec.json.Decoder(Registration).decode
"""Decodes one message whose type is about registrations; raises what `UNDECODABLE` lists."""

UNDECODABLE = (msgspec.DecodeError, RecursionError)
"""Not JSON, not an object, a member of the wrong type; or nested too deep."""


_INVOCATION_ID = re.compile(r'"invocation_id"\s*:\s*"([0-9A-Za-z-]{1,64})"')
_INVOKE = re.compile(r'"type"\s*:\s*"invokefunction"')


def invocation_id_of(text: str) -> str | None:
    """The id of a call whose frame does not decode, if it stands where it is easily found."""
    edges = text[:4096] + text[-4096:]
    if not _INVOKE.search(edges):
        return None
    found = _INVOCATION_ID.findall(edges)
    return found[-1] if found else None


def sent(raw: Raw) -> bytes | None:
    """The text of a raw member, or None when it was absent or `null`."""
    text = bytes(raw)
    return None if text in (b"", b"null") else text
