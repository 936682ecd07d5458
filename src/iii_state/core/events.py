"""What a handler is told of a change: the event, as JSON text.

Values are spliced in as the bytes that were written; nothing is decoded. The first six members are
the original's, always all there; the rest is ours.
"""

from __future__ import annotations

from iii_state.core.changes import Change
from iii_state.core.values import encode_text

INITIAL = "initial"
"""The cause of what is no change: an entry that was there when a binding began, told as created.

Its event carries the revision and time of the write that left it so."""


def event_id(change: Change) -> str:
    """A name for the change that no redelivery alters: `<timestamp_ms>-<revision>`.

    The revision alone would do within one store. The time keeps apart the ids of two stores, and
    those of a memory store before and after a restart, for handlers that remember what they did.
    """
    return f"{change.timestamp_ms}-{change.revision}"


def event_payload(change: Change, attempt: int, *, values_omitted: bool = False) -> bytes:
    """The event as JSON text. `attempt` counts deliveries of this change to this binding from 1.

    With `values_omitted` both values are null and a member says so: for handlers whose client
    cannot receive the whole. They can read the key, or the history at the event's revision.
    `worker` is left out when the writer is not known.
    """
    before, after = change.before, change.after
    if values_omitted:
        before = after = None
    origin = change.origin
    timestamp_ms, revision = change.timestamp_ms, change.revision
    cause = change.cause and b',"cause":%b' % encode_text(change.cause)
    if change.cause == INITIAL and change.entry is not None:
        revision, cause = change.entry.revision, b',"initial":true'
    return (
        b'{"type":"state","event_type":"%b","scope":%b,"key":%b,"old_value":%b,"new_value":%b,'
        b'"event_id":"%d-%d","revision":%d,"timestamp_ms":%d,"attempt":%d,"depth":%d%b%b%b%b}'
    ) % (
        change.event_type.encode(),
        encode_text(change.scope),
        encode_text(change.key),
        b"null" if before is None else before,
        b"null" if after is None else after,
        timestamp_ms,
        revision,
        revision,
        timestamp_ms,
        attempt,
        origin.depth,
        b',"worker":%b' % encode_text(origin.worker) if origin.worker else b"",
        b',"function":%b' % encode_text(origin.function) if origin.function else b"",
        cause or b"",
        b',"values_omitted":true' if values_omitted else b"",
    )
