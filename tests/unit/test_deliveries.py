from __future__ import annotations

import pytest
from delivery_bench import TINY, Course, change_of
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from iii_state.core.changes import Change, Entry
from iii_state.core.deliveries import Deliveries
from iii_state.core.delivery import Delivery, Result


def test_the_events_of_one_key_start_one_after_another() -> None:
    course = Course("a", "a", "b", "a")
    assert course.start() == [1, 3]
    course.end(1, Result.DELIVERED)
    assert course.start() == [2]
    course.end(3, Result.DELIVERED)
    assert course.start() == []
    course.end(2, Result.DELIVERED)
    assert course.start() == [4]


def test_the_same_key_in_another_scope_is_another_key() -> None:
    course = Course("a")
    course.deliveries.offer(Change(2, "t", "a", None, Entry(b"1", 2, 2, 0, 0), 0))
    assert course.start() == [1, 2]


def test_no_more_are_in_flight_than_allowed() -> None:
    course = Course("a", "b", "c", limits=TINY)
    assert course.start() == [1, 2]
    assert (course.deliveries.in_flight, course.deliveries.waiting) == (2, 1)
    course.end(2, Result.DELIVERED)
    assert course.start() == [3]


@pytest.mark.parametrize(
    ("result", "counted"),
    [(Result.DELIVERED, (1, 0, 0)), (Result.SKIPPED, (0, 1, 0)), (Result.FAILED, (0, 0, 1))],
)
def test_every_end_is_counted_and_frees_the_key(
    result: Result, counted: tuple[int, int, int]
) -> None:
    course = Course("a", "a")
    assert course.start() == [1]
    course.end(1, result)
    counters = course.deliveries.counters
    assert (counters.delivered, counters.skipped, counters.failed) == counted
    assert counters.matched == 2
    assert course.start() == [2]


def test_an_interrupted_delivery_is_made_again_before_the_later_ones_of_its_key() -> None:
    course = Course("a", "a", limits=TINY)
    assert course.start() == [1]
    assert course.attempts == {1: 1}
    course.end(1, Result.INTERRUPTED)
    assert course.cursor == 0
    assert course.start() == [1]
    assert course.attempts == {1: 2}


def test_a_delivery_that_is_interrupted_too_often_has_failed() -> None:
    course = Course("a", "a", limits=TINY)
    for _ in range(3):
        assert course.start() == [1]
        course.end(1, Result.INTERRUPTED)
    assert course.deliveries.counters.failed == 1
    assert course.start() == [2]


def test_what_was_offered_before_is_ignored() -> None:
    course = Course("a")
    assert course.deliveries.offer(change_of(1, "a"))
    assert course.deliveries.counters.matched == 1
    course.deliveries.pass_over(5)
    course.deliveries.pass_over(2)
    assert course.deliveries.offer(change_of(5, "b"))
    assert course.start() == [1]


def test_a_full_read_ahead_takes_no_more_until_half_of_it_is_gone() -> None:
    course = Course("a", "a", "a", "a", limits=TINY)
    assert not course.deliveries.offer(change_of(5, "b"))
    assert course.deliveries.position == 4
    for revision, has_room in ((1, False), (2, True)):
        assert course.start() == [revision]
        assert course.deliveries.has_room is has_room
        course.end(revision, Result.DELIVERED)
    assert course.deliveries.offer(change_of(5, "b"))


def test_the_values_that_wait_are_bounded_by_their_bytes() -> None:
    course = Course(limits=TINY)
    assert course.deliveries.offer(change_of(1, "a", b"1" * 1000))
    assert not course.deliveries.offer(change_of(2, "b"))
    assert not course.deliveries.has_room
    assert course.start() == [1]
    assert course.deliveries.has_room
    assert course.deliveries.offer(change_of(2, "b"))


def test_the_cursor_is_below_everything_that_is_not_done() -> None:
    course = Course("a", "b", "b", limits=TINY)
    assert course.cursor == 0
    assert course.start() == [1, 2]
    course.end(1, Result.DELIVERED)
    assert course.cursor == 1
    course.end(2, Result.FAILED)
    assert course.cursor == 2
    assert course.start() == [3]
    course.end(3, Result.DELIVERED)
    assert course.cursor == 3
    assert course.deliveries.cursor(9) == 9


def test_what_is_no_longer_kept_is_counted_as_lost() -> None:
    course = Course("a")
    course.deliveries.lose(1)
    assert (course.deliveries.counters.lost, course.deliveries.last_lost) == (0, None)
    course.deliveries.lose(11)
    course.deliveries.lose(15)
    assert (course.deliveries.counters.lost, course.deliveries.last_lost) == (14, (12, 15))
    assert course.deliveries.position == 15


class AnyInterleaving(RuleBasedStateMachine):
    """A feed that is read as room allows, and results that come in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = TINY
        self.feed: list[Change] = []
        self.deliveries = Deliveries(0, self.limits)
        self.read_up_to = 0
        self.flying: list[Delivery] = []
        self.attempts: dict[int, int] = {}
        self.ended: dict[str, list[int]] = {}

    @rule(key=st.sampled_from("abc"), size=st.sampled_from([1, 30, 200]))
    def write(self, key: str, size: int) -> None:
        self.feed.append(change_of(len(self.feed) + 1, key, b"1" * size))

    @rule()
    def read(self) -> None:
        while self.read_up_to < len(self.feed):
            if not self.deliveries.offer(self.feed[self.read_up_to]):
                return
            self.read_up_to += 1

    @rule()
    def start(self) -> None:
        for delivery in self.deliveries.next_ready():
            revision = delivery.change.revision
            assert delivery.attempt == self.attempts.get(revision, 0) + 1
            self.attempts[revision] = delivery.attempt
            self.flying.append(delivery)

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), result=st.sampled_from(Result))
    def finish(self, data: st.DataObject, result: Result) -> None:
        delivery = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        change = delivery.change
        self.deliveries.finished(delivery, result)
        again = delivery.attempt <= self.limits.interruptions_max
        if result is not Result.INTERRUPTED or not again:
            self.ended.setdefault(change.key, []).append(change.revision)

    @invariant()
    def one_of_a_key_is_in_flight_and_ends_in_order(self) -> None:
        keys = [delivery.change.key for delivery in self.flying]
        assert len(set(keys)) == len(keys) <= self.limits.in_flight_max
        for key, revisions in self.ended.items():
            expected = [change.revision for change in self.feed if change.key == key]
            assert revisions == expected[: len(revisions)]

    @invariant()
    def memory_is_bounded(self) -> None:
        limits, deliveries = self.limits, self.deliveries
        assert deliveries.in_flight == len(self.flying)
        assert deliveries.waiting <= limits.read_ahead_max + limits.in_flight_max
        unended = self.read_up_to - sum(map(len, self.ended.values()))
        assert deliveries.in_flight + deliveries.waiting == unended

    @invariant()
    def everything_up_to_the_cursor_is_done_and_the_next_is_not(self) -> None:
        done = {revision for revisions in self.ended.values() for revision in revisions}
        cursor = self.deliveries.cursor(self.read_up_to)
        assert set(range(1, cursor + 1)) <= done
        assert cursor + 1 not in done

    def teardown(self) -> None:
        """Whatever happened, all of it gets through in the end."""
        for _ in range(10 * len(self.feed) + 10):
            self.read()
            self.start()
            while self.flying:
                delivery = self.flying.pop()
                self.deliveries.finished(delivery, Result.DELIVERED)
                self.ended.setdefault(delivery.change.key, []).append(delivery.change.revision)
            self.one_of_a_key_is_in_flight_and_ends_in_order()
        assert sum(map(len, self.ended.values())) == len(self.feed)
        counters = self.deliveries.counters
        assert counters.matched == counters.delivered + counters.skipped + counters.failed


TestAnyInterleaving = AnyInterleaving.TestCase
