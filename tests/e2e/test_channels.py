"""Data channels between workers of different SDKs."""

from __future__ import annotations

import pytest

from e2e.workers import Worker


@pytest.mark.parametrize("writes", ["worker", "other"])
def test_data_and_texts_pass_from_one_runtime_to_the_other(
    worker: Worker, other: Worker, scope: str, writes: str
) -> None:
    writer, reader = (worker, other) if writes == "worker" else (other, worker)
    writer.serve(f"{scope}::write", "write")
    reader.serve(f"{scope}::read", "read")
    ends = worker.ask("create_channel")["result"]

    reading = other.send(
        "call", request={"function_id": f"{scope}::read", "payload": {"reader": ends["reader"]}}
    )
    sent = {"writer": ends["writer"], "text": '{"a": "ü"}', "size": 100_000}
    worker.call(f"{scope}::write", sent)

    assert other.answer(reading)["result"] == {
        "size": 100_000,
        "texts": ['{"a": "ü"}'],
        "is_whole": True,
    }


def test_what_was_written_before_the_reader_came_is_kept_for_it(
    worker: Worker, other: Worker, scope: str
) -> None:
    worker.serve(f"{scope}::write", "write")
    other.serve(f"{scope}::read", "read")
    ends = worker.ask("create_channel")["result"]

    other.call(f"{scope}::write", {"writer": ends["writer"], "text": "t", "size": 100_000})
    answer = worker.call(f"{scope}::read", {"reader": ends["reader"]})

    assert answer == {"size": 100_000, "texts": ["t"], "is_whole": True}
