"""What discovery tells about the state functions and the trigger type `state`: JSON Schemas.

The structure of the six original functions' schemas is that which clients know.
Source: docs/functions.md.
"""

from __future__ import annotations

from typing import Any

import msgspec

from iii_state.core.bindings import EVENT_NAMES, Retry

Schema = dict[str, Any]

_DRAFT = "http://json-schema.org/draft-07/schema#"


class FunctionSchema(msgspec.Struct, frozen=True):
    """A function's description, and the schemas of its request and, if known, its response."""

    description: str
    request: Schema
    response: Schema | None = None


def integer(description: str) -> Schema:
    """A whole number."""
    return {"type": "integer", "description": description}


def described(
    title: str, properties: Schema, required: list[str], definitions: Schema | None = None
) -> Schema:
    """The schema of an object."""
    schema: Schema = {"$schema": _DRAFT, "title": title, "type": "object"}
    if required:
        schema["required"] = required
    if properties:
        schema["properties"] = properties
    if definitions:
        schema["definitions"] = definitions
    return schema


SCOPE = {"type": "string", "description": "The scope that holds the key."}
KEY = {"type": "string", "description": "The name of the value within its scope."}
OPTIONS: Schema = {
    "idempotency_key": {
        "type": "string",
        "description": "A repetition of the request within ten minutes is not carried out again.",
    },
    "deadline_ms": integer("Milliseconds since the epoch; taken up later, it is refused."),
}
_ANY_OLD = {"description": "What the key held before; null when it held nothing."}
_ANY_NEW = {"description": "What the key holds now."}
_PATH = {"type": "string", "description": "A first-level member by its literal name; empty: root."}
_NESTED_PATH = {
    "anyOf": [{"$ref": "#/definitions/MergePath"}, {"type": "null"}],
    "description": "A member, or a list of members to walk; absent or empty: the root.",
}


def _operation(name: str, required: list[str], properties: Schema) -> Schema:
    return {
        "type": "object",
        "required": required,
        "properties": {**properties, "type": {"type": "string", "enum": [name]}},
    }


_BY = {"type": "integer", "format": "int64"}
_UPDATE_DEFINITIONS: Schema = {
    "MergePath": {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    },
    "UpdateOp": {
        "oneOf": [
            _operation("set", ["path", "type"], {"path": _PATH, "value": True}),
            _operation("merge", ["type", "value"], {"path": _NESTED_PATH, "value": True}),
            _operation("increment", ["by", "path", "type"], {"by": _BY, "path": _PATH}),
            _operation("decrement", ["by", "path", "type"], {"by": _BY, "path": _PATH}),
            _operation("append", ["type", "value"], {"path": _NESTED_PATH, "value": True}),
            _operation("remove", ["path", "type"], {"path": _PATH}),
        ]
    },
}

_UPDATE_ERRORS: Schema = {
    "type": "array",
    "items": {"$ref": "#/definitions/UpdateOpError"},
    "description": "The operations that failed; left out when all applied.",
}
_UPDATE_ERROR_DEFINITION: Schema = {
    "UpdateOpError": {
        "type": "object",
        "required": ["code", "message", "op_index"],
        "properties": {
            "op_index": {"type": "integer", "format": "uint", "minimum": 0.0},
            "code": {"type": "string"},
            "message": {"type": "string"},
            "doc_url": {"type": ["string", "null"]},
        },
    }
}

FUNCTIONS: dict[str, FunctionSchema] = {
    "set": FunctionSchema(
        "Set a value in state",
        described(
            "StateSetInput",
            {"scope": SCOPE, "key": KEY, "value": {"description": "Any JSON; null is a value."}},
            ["key", "scope", "value"],
        ),
        described("StreamSetResult", {"old_value": _ANY_OLD, "new_value": _ANY_NEW}, ["new_value"]),
    ),
    "get": FunctionSchema(
        "Get a value from state",
        described("StateGetInput", {"scope": SCOPE, "key": KEY}, ["key", "scope"]),
    ),
    "delete": FunctionSchema(
        "Delete a value from state",
        described("StateDeleteInput", {"scope": SCOPE, "key": KEY}, ["key", "scope"]),
    ),
    "update": FunctionSchema(
        "Update a value in state",
        described(
            "StateUpdateInput",
            {
                "scope": SCOPE,
                "key": KEY,
                "ops": {
                    "type": "array",
                    "items": {"$ref": "#/definitions/UpdateOp"},
                    "description": "Applied in order, as one change.",
                },
            },
            ["key", "ops", "scope"],
            _UPDATE_DEFINITIONS,
        ),
        described(
            "StreamUpdateResult",
            {"old_value": _ANY_OLD, "new_value": _ANY_NEW, "errors": _UPDATE_ERRORS},
            ["new_value"],
            _UPDATE_ERROR_DEFINITION,
        ),
    ),
    "list": FunctionSchema(
        "Get a group from state",
        described("StateGetGroupInput", {"scope": SCOPE}, ["scope"]),
    ),
    "list_groups": FunctionSchema(
        "List all state groups",
        described("StateListGroupsInput", {}, []),
        described(
            "StateListGroupsResult",
            {"groups": {"type": "array", "items": {"type": "string"}}},
            ["groups"],
        ),
    ),
    "info": FunctionSchema(
        "Tell the store's durability, revision and size",
        described("StateInfoInput", {}, []),
        described(
            "StateInfoResult",
            {
                "version": {"type": "string"},
                "adapter": {"type": "string"},
                "durability": {"type": "string", "enum": ["commit", "interval", "none", "memory"]},
                "revision": {"type": "integer", "description": "That of the newest change."},
                "oldest_revision": {
                    "type": "integer",
                    "description": "The change log reaches back to just after this one.",
                },
                "scopes": {"type": "integer"},
                "keys": {"type": "integer"},
                "bytes": {"type": "integer", "description": "Of all values together."},
                "disk_bytes": {"type": "integer"},
                "directory": {"type": "string"},
                "healthy": {"type": "boolean", "description": "False when writes are refused."},
                "problem": {"type": "string"},
            },
            ["version", "adapter", "durability", "revision", "scopes", "keys", "bytes"],
        ),
    ),
}

TRIGGER_DESCRIPTION = "State trigger"

_OPTIONAL_TEXT: list[str] = ["string", "null"]
_OPTIONAL_NUMBER: list[str] = ["integer", "null"]

TRIGGER_CONFIG: Schema = described(
    "StateTriggerConfig",
    {
        "scope": {"type": _OPTIONAL_TEXT, "description": "Only this scope; absent: every one."},
        "key": {"type": _OPTIONAL_TEXT, "description": "Only this key; absent: every one."},
        "condition_function_id": {
            "type": _OPTIONAL_TEXT,
            "description": "Called first with the event; when it answers false, it is skipped.",
        },
        "key_prefix": {"type": _OPTIONAL_TEXT, "description": "Only keys that begin with it."},
        "keys": {
            "type": ["array", "null"],
            "items": {"type": "string"},
            "description": "Only these keys.",
        },
        "events": {
            "type": ["array", "null"],
            "items": {"type": "string", "enum": list(EVENT_NAMES)},
            "description": "Only these; an expiry is no delete.",
        },
        "changed_only": {
            "type": ["boolean", "null"],
            "description": "Only if the value is another than before.",
        },
        "filters": {
            "type": ["object", "null"],
            "description": "Only events that this iii filter matches; paths start with input.",
        },
        "from": {
            "type": ["string", "integer", "null"],
            "description": "now (default), initial, or the revision after which to start.",
        },
        "durable": {
            "type": _OPTIONAL_TEXT,
            "description": "Keep the place in the log under this name.",
        },
        "retry": {
            "type": ["object", "null"],
            "properties": {name: {"type": _OPTIONAL_NUMBER} for name in Retry.__struct_fields__},
            "description": "Try again when the function fails.",
        },
        "timeout_ms": {"type": _OPTIONAL_NUMBER, "description": "How long a call may take."},
        "max_in_flight": {
            "type": _OPTIONAL_NUMBER,
            "description": "Calls at once, each of another key; 64.",
        },
        "debounce_ms": {
            "type": _OPTIONAL_NUMBER,
            "description": "Deliver a key's latest change once it is quiet for this long.",
        },
    },
    [],
)

TRIGGER_CALL: Schema = described(
    "StateCallRequest",
    {
        "type": {"type": "string"},
        "event_type": {"allOf": [{"$ref": "#/definitions/StateEventType"}]},
        "scope": SCOPE,
        "key": KEY,
        "old_value": _ANY_OLD,
        "new_value": _ANY_NEW,
    },
    ["event_type", "key", "new_value", "scope", "type"],
    {
        "StateEventType": {
            "type": "string",
            "enum": ["state:created", "state:updated", "state:deleted"],
        }
    },
)
