"""What discovery tells about `state::triggers` and `state::dead_letters`: JSON Schemas, bounds."""

from __future__ import annotations

from typing import Final

from iii_state.engine.state_schemas import FunctionSchema, Schema, described, integer

LIMIT: Final = 100
LIMIT_MAX: Final = 1000
ANSWER_BYTES: Final = 1 << 20
"""What a page of dead letters carries, but at least one."""

STATUSES: Final = ("live", "behind", "full", "paused", "away")

_NAME: Schema = {"type": "string", "description": "The name of a durable trigger."}
_ERROR: Schema = {
    "type": "object",
    "properties": {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "stacktrace": {"type": "string"},
        "revision": integer("That of the event."),
    },
}
_COUNTERS = ("matched", "delivered", "skipped", "failed", "coalesced", "retried", "redriven")

_TRIGGER: Schema = {
    "type": "object",
    "required": [
        *("config", "counters", "cursor", "dead_letters", "durable", "function_id", "id"),
        *("in_flight", "lag", "namespace", "paused", "status", "waiting"),
    ],
    "properties": {
        "id": {"type": "string", "description": "Under which it was bound last."},
        "name": {**_NAME, "description": "Of a durable one."},
        "durable": {"type": "boolean", "description": "Whether it outlives its worker."},
        "function_id": {"type": "string"},
        "namespace": {"type": "string", "description": "Where the function is looked up."},
        "config": {"description": "As it was sent."},
        "unknown_members": {
            "type": "string",
            "description": "Members of the config that mean nothing, and what may be meant.",
        },
        "status": {"type": "string", "enum": [*STATUSES]},
        "paused": {"type": "boolean"},
        "cursor": integer("Everything up to this revision is done."),
        "lag": integer("How many revisions the store is ahead of that."),
        "in_flight": integer("Calls that run."),
        "waiting": integer("Events that wait for their turn, or for another attempt."),
        "bound_by": integer("How many connected workers bind it."),
        "dead_letters": integer("How many it has."),
        "last_error": _ERROR,
        "lost": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "The latest range of revisions that were no longer kept for it.",
        },
        "counters": {
            "type": "object",
            "properties": {name: {"type": "integer"} for name in (*_COUNTERS, "lost")},
        },
    },
}

_LETTER: Schema = {
    "type": "object",
    "required": ["attempts", "error", "event", "id", "parked_at_ms", "trigger"],
    "properties": {
        "id": {"type": "string", "description": "That of the trigger, @, and the revision."},
        "trigger": {"type": "string", "description": "The name of a durable one, or the id."},
        "event": {"type": "object", "description": "As the function got it."},
        "attempts": integer("How often it was delivered; 0 if it never was."),
        "error": _ERROR,
        "parked_at_ms": integer("When it was given up, in milliseconds since the epoch."),
    },
}

FUNCTIONS: dict[str, FunctionSchema] = {
    "triggers": FunctionSchema(
        "Tell how triggers of type state fare; pause, resume or delete one",
        described(
            "StateTriggersInput",
            {
                "action": {
                    "type": "string",
                    "enum": ["list", "show", "pause", "resume", "delete"],
                    "description": "list if absent; the others need a name or an id.",
                },
                "name": _NAME,
                "id": {"type": "string", "description": "The id of a trigger."},
            },
            [],
        ),
        described(
            "StateTriggersResult",
            {
                "triggers": {
                    "type": "array",
                    "items": {"$ref": "#/definitions/StateTrigger"},
                    "description": "Of list.",
                },
                "trigger": {
                    "allOf": [{"$ref": "#/definitions/StateTrigger"}],
                    "description": "Of show, pause and resume.",
                },
                "deleted": {"type": "boolean", "description": "Of delete."},
            },
            [],
            {"StateTrigger": _TRIGGER},
        ),
    ),
    "dead_letters": FunctionSchema(
        "Tell which events were given up; deliver them again, or discard them",
        described(
            "StateDeadLettersInput",
            {
                "action": {
                    "type": "string",
                    "enum": ["list", "redrive", "discard"],
                    "description": "list if absent; the others need a name, an id, or all.",
                },
                "name": {"type": "string", "description": "Only of this trigger, by name or id."},
                "id": {"type": "string", "description": "Only this letter."},
                "all": {"type": "boolean", "description": "Those of all triggers."},
                "cursor": {"type": "string", "description": "The next_cursor of the page before."},
                "limit": integer(f"How many at most; {LIMIT} if absent, at most {LIMIT_MAX}."),
            },
            [],
        ),
        described(
            "StateDeadLettersResult",
            {
                "dead_letters": {
                    "type": "array",
                    "items": {"$ref": "#/definitions/StateDeadLetter"},
                    "description": "Of list, in the order in which they were given up.",
                },
                "next_cursor": {"type": "string", "description": "Absent: that was all."},
                "redriven": integer("Of redrive: how many are delivered again."),
                "discarded": integer("Of discard: how many."),
            },
            [],
            {"StateDeadLetter": _LETTER},
        ),
    ),
}
