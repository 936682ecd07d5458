"""How log lines look."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from iii_state.logs import configure
from iii_state.settings import LogFormat

log = logging.getLogger("iii_state.test")


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(log_format: LogFormat, stream: io.StringIO | None = None) -> io.StringIO:
    stream = stream if stream is not None else io.StringIO()
    configure(log_format, "info", stream)
    return stream


def test_json_has_one_object_a_line_with_its_facts() -> None:
    stream = lines("json")

    log.warning("took %d ms", 5, extra={"worker": "ä\n"})

    record = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert list(record)[:4] == ["timestamp", "level", "logger", "message"]
    assert record["timestamp"].endswith("Z")
    assert (record["level"], record["logger"]) == ("warning", "iii_state.test")
    assert (record["message"], record["worker"]) == ("took 5 ms", "ä\n")


def test_json_carries_exceptions_as_text() -> None:
    stream = lines("json")

    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed")

    assert "ValueError: broken" in json.loads(stream.getvalue())["exception"]


def test_text_is_one_line_without_colours_where_nobody_watches() -> None:
    stream = lines("text")

    log.info("took %d ms", 5, extra={"worker": "w"})

    assert stream.getvalue().count("\n") == 1
    assert "took 5 ms" in stream.getvalue()
    assert "worker=w" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_a_name_cannot_forge_a_line_or_move_the_cursor() -> None:
    stream = lines("text")

    log.info("worker %s came\r", "evil\n2026 [info] all is well \x1b[2J", extra={"name_": "\u202e"})

    assert stream.getvalue().count("\n") == 1
    assert not {"\r", "\x1b", "\u202e"} & set(stream.getvalue())


def test_a_terminal_has_colours_unless_they_are_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = lines("text", Terminal())
    log.info("x")
    monkeypatch.setenv("NO_COLOR", "1")
    plain = lines("text", Terminal())
    log.info("x")

    assert "\x1b[" in coloured.getvalue()
    assert "\x1b[" not in plain.getvalue()


def test_lines_below_the_level_are_left_out() -> None:
    stream = lines("text")

    log.debug("detail")

    assert stream.getvalue() == ""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_is_very_long_is_cut(log_format: LogFormat) -> None:
    stream = lines(log_format)

    log.info("%s", "x" * 100_000, extra={"worker": "y" * 100_000, "data": {"z": ["z"] * 100_000}})
    try:
        raise ValueError("broken " * 10_000)
    except ValueError:
        log.exception("it failed")

    first, *rest = stream.getvalue().splitlines()
    assert len(first) < 3 * 9000
    assert first.count("characters)") == 3
    assert "ValueError: broken" in "\n".join(rest)


def test_lines_of_one_kind_are_limited() -> None:
    stream = io.StringIO()
    seconds = [0.0]
    configure("text", "info", stream, lines_max=2, clock=lambda: seconds[0])

    for number in range(1236):
        log.warning("worker %d misbehaves", number)
    log.info("another line")
    seconds[0] += 60
    log.info("another minute")

    written = [line.split("] ", 1)[1] for line in stream.getvalue().splitlines()]
    assert written == [
        "worker 0 misbehaves [iii_state.test]",
        "worker 1 misbehaves [iii_state.test]",
        "another line [iii_state.test]",
        "1,234 more lines like this were left out: worker %d misbehaves [iii_state.test]",
        "another minute [iii_state.test]",
    ]


def test_configuring_again_replaces_the_first() -> None:
    first = lines("text")
    second = lines("json")

    log.info("x")

    assert first.getvalue() == ""
    assert second.getvalue() != ""
