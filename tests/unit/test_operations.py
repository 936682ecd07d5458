"""The update operations, against the recorded behaviour of the original and by property."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iii_state.core.operations import apply_operations, decode_operations
from iii_state.errors import InvalidRequest

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "update_ops.json").read_text())


def typed(value: Any) -> Any:
    """A form in which 2, 2.0 and true differ, and the order of members does not matter."""
    if isinstance(value, dict):
        return {name: typed(member) for name, member in value.items()}
    if isinstance(value, list):
        return [typed(element) for element in value]
    return (type(value).__name__, repr(value))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_operations_do_what_the_original_does(vector: dict[str, Any]) -> None:
    request = json.dumps(vector["ops"]).encode()
    before = None if "absent" in vector else json.dumps(vector["old"]).encode()
    if "call_error" in vector:
        with pytest.raises(InvalidRequest) as refused:
            decode_operations(request, count_max=10_000)
        assert refused.value.wire_code == vector["call_error"]
        return

    after, errors = apply_operations(before, decode_operations(request, count_max=10_000))

    assert typed(json.loads(after)) == typed(vector["new"])
    assert [{"op_index": e.op_index, "code": e.code} for e in errors] == vector["errors"]
