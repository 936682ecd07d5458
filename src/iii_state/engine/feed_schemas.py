"""What discovery tells about `state::changes` and `state::history`: bounds and JSON Schemas."""

from __future__ import annotations

from typing import Final, get_args

from iii_state.core.binding_config import EVENT_NAMES
from iii_state.core.changes import EventType
from iii_state.engine.state_schemas import KEY, SCOPE, FunctionSchema, Schema, described, integer

LIMIT: Final = 100
LIMIT_MAX: Final = 1000
ANSWER_BYTES: Final = 1 << 20
"""What an answer carries unless the caller says otherwise."""
ANSWER_BYTES_MAX: Final = 8 << 20
WAIT_MS_MAX: Final = 60_000

_LIMIT = integer(f"How many at most; {LIMIT} if absent, never more than {LIMIT_MAX}.")
_OLDEST = integer("The change log reaches back to just after this one.")
_TIME = integer("When it was written, in milliseconds since the epoch.")
_WORKER: Schema = {"type": "string", "description": "The worker that wrote it, if known."}
_CAUSE: Schema = {"type": "string", "description": 'Why, if nobody wrote it: "expired".'}
_OMITTED: Schema = {"type": "boolean", "description": "True: too large for this caller."}
_EVENT_TYPE: Schema = {"type": "string", "enum": [*get_args(EventType)]}
_ANY: Schema = {"description": "Null when the key held nothing."}

_EVENT: Schema = {
    "type": "object",
    "required": ["event_id", "event_type", "key", "new_value", "old_value", "revision", "scope"],
    "properties": {
        "type": {"type": "string", "enum": ["state"]},
        "event_type": _EVENT_TYPE,
        "scope": SCOPE,
        "key": KEY,
        "old_value": _ANY,
        "new_value": _ANY,
        "event_id": {"type": "string", "description": "The same however often it is told."},
        "revision": integer("That of the change."),
        "timestamp_ms": _TIME,
        "attempt": integer("Always 1 here."),
        "depth": integer("How many handlers' writes led to it."),
        "worker": _WORKER,
        "cause": _CAUSE,
        "values_omitted": _OMITTED,
    },
}

_VERSION: Schema = {
    "type": "object",
    "required": ["event_type", "revision", "timestamp_ms"],
    "properties": {
        "revision": integer("That of the change that made it."),
        "event_type": _EVENT_TYPE,
        "value": {"description": "What the key held from then on; absent when it was deleted."},
        "timestamp_ms": _TIME,
        "worker": _WORKER,
        "function": {"type": "string", "description": "The function that wrote it, if known."},
        "cause": _CAUSE,
        "values_omitted": _OMITTED,
    },
}

FUNCTIONS: dict[str, FunctionSchema] = {
    "changes": FunctionSchema(
        "Read the changes after a revision, or wait for the next one",
        described(
            "StateChangesInput",
            {
                "after": integer("Tell what came after this revision; 0: from the first one."),
                "scope": {**SCOPE, "description": "Only this scope."},
                "key": {**KEY, "description": "Only this key."},
                "key_prefix": {"type": "string", "description": "Only keys that begin like this."},
                "events": {
                    "type": "array",
                    "items": {"type": "string", "enum": [*EVENT_NAMES]},
                    "description": "Only these; an expiry is expired, not deleted.",
                },
                "limit": _LIMIT,
                "max_bytes": integer("How many bytes of events at most, but at least one event."),
                "wait_ms": integer(f"Wait that long if there is nothing; at most {WAIT_MS_MAX}."),
            },
            ["after"],
        ),
        described(
            "StateChangesResult",
            {
                "changes": {"type": "array", "items": {"$ref": "#/definitions/StateChange"}},
                "last_revision": integer("What to pass as the next `after`."),
                "oldest_revision": _OLDEST,
                "revision": integer("The newest one; when last_revision is it, that was all."),
            },
            ["changes", "last_revision", "oldest_revision", "revision"],
            {"StateChange": _EVENT},
        ),
    ),
    "history": FunctionSchema(
        "Read the versions of a key, newest first",
        described(
            "StateHistoryInput",
            {
                "scope": SCOPE,
                "key": KEY,
                "limit": _LIMIT,
                "before": integer("Only versions older than this revision."),
            },
            ["key", "scope"],
        ),
        described(
            "StateHistoryResult",
            {
                "versions": {"type": "array", "items": {"$ref": "#/definitions/StateVersion"}},
                "oldest_revision": _OLDEST,
                "next_before": integer("What to pass as the next `before`; absent: that was all."),
            },
            ["oldest_revision", "versions"],
            {"StateVersion": _VERSION},
        ),
    ),
}
