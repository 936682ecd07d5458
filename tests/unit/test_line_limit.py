"""Log lines are limited by kind; what was left out is counted and told."""

from __future__ import annotations

import logging
import threading

import pytest

from iii_state.line_limit import KINDS_MAX, WINDOW_S, LineLimit


class Log:
    """A logger that keeps its lines, at most three of a kind in a minute, and a clock by hand."""

    def __init__(self, lines_max: int = 3) -> None:
        self.now = 100.0
        self.lines: list[str] = []
        self._handler = Keeper(self.lines)
        self._handler.addFilter(LineLimit(lines_max, self._handler.handle, lambda: self.now))

    def __call__(
        self, template: str, *arguments: object, name: str = "a", level: int = logging.WARNING
    ) -> None:
        record = logging.LogRecord(name, level, __file__, 1, template, arguments, None)
        self._handler.handle(record)


class Keeper(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.levelname} {record.name} {record.getMessage()}")


@pytest.fixture
def log() -> Log:
    return Log()


def test_only_the_first_lines_of_a_kind_are_logged(log: Log) -> None:
    for number in range(10):
        log("client %d", number)

    assert log.lines == [f"WARNING a client {number}" for number in range(3)]


def test_other_kinds_have_limits_of_their_own(log: Log) -> None:
    for _ in range(5):
        log("one")
        log("two")
        log("one", name="b")
        log("one", level=logging.ERROR)

    assert len(log.lines) == 4 * 3


def test_after_a_minute_the_next_line_tells_how_many_were_left_out(log: Log) -> None:
    for _ in range(1237):
        log("100%% of %s", "x")
    log.now += WINDOW_S - 1
    log("before")
    log.now += 1
    log("after")
    log("100%% of %s", "y")

    assert log.lines[3:] == [
        "WARNING a before",
        "WARNING a 1,234 more lines like this were left out: 100%% of %s",
        "WARNING a after",
        "WARNING a 100% of y",
    ]


def test_a_minute_in_which_nothing_was_left_out_tells_nothing(log: Log) -> None:
    for _ in range(5):
        log("fine")
        log.now += WINDOW_S

    assert log.lines == ["WARNING a fine"] * 5


def test_kinds_without_end_are_limited_together_and_take_no_memory(log: Log) -> None:
    for number in range(3 * KINDS_MAX):
        log(f"made up {number}")
    counted = len(log.lines)
    log.now += WINDOW_S
    log("after")

    assert counted == KINDS_MAX + 3
    assert log.lines[counted:] == [
        f"WARNING a {2 * KINDS_MAX - 3:,} more lines like this were left out: others",
        "WARNING a after",
    ]


def test_threads_count_together() -> None:
    log = Log(lines_max=50)

    def write() -> None:
        for _ in range(1000):
            log("x")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.now += WINDOW_S
    log("after")

    assert len(log.lines) == 50 + 2
    assert log.lines[-2].startswith("WARNING a 3,950 more")
