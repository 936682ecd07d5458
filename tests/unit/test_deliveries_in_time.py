"""Retries, time-outs, debouncing, pauses, and going on from a checkpoint."""

from __future__ import annotations

import pytest
from delivery_bench import TINY, Course

from iii_state.core.bindings import BindingConfig, Retry
from iii_state.core.checkpoints import Checkpoint, Pending
from iii_state.core.deliveries import Limits
from iii_state.core.delivery import GivenUp, Result
from iii_state.core.policies import ONCE, Policy

THRICE = Policy(attempts_max=3, initial_ms=100, max_ms=1000)
HASTY = Policy(timeout_ms=50)
PATIENT = Policy(attempts_max=2, waits_for_function=True)
CALM = Policy(debounce_ms=10)


@pytest.mark.parametrize(
    ("config", "policy", "limits"),
    [
        (BindingConfig(), ONCE, Limits()),
        (BindingConfig(retry=Retry(4, 5, 6)), Policy(4, 5, 6), Limits()),
        (BindingConfig(timeout_ms=7, debounce_ms=8), Policy(1, 200, 60_000, 7, 8), Limits()),
        (
            BindingConfig(durable="d", max_in_flight=9),
            Policy(10, 200, 60_000, 30_000, None, True),
            Limits(in_flight_max=9, interruptions_max=20),
        ),
        (
            BindingConfig(durable="d", retry=Retry(2, 3, 4), timeout_ms=5),
            Policy(2, 3, 4, 5, None, True),
            Limits(interruptions_max=20),
        ),
    ],
)
def test_a_config_makes_a_policy_and_limits(
    config: BindingConfig, policy: Policy, limits: Limits
) -> None:
    assert Policy.of(config) == policy
    assert Limits().under(config) == limits


@pytest.mark.parametrize(
    ("policy", "is_timed"),
    [(ONCE, False), (THRICE, True), (HASTY, True), (PATIENT, True), (CALM, True)],
)
def test_time_matters_only_where_something_depends_on_it(policy: Policy, is_timed: bool) -> None:
    assert Course(policy=policy).deliveries.is_timed is is_timed
    assert Policy(waits_for_function=True).is_timed


def test_waits_double_up_to_the_longest_and_jitter_takes_off_up_to_half() -> None:
    policy = Policy(attempts_max=1000, initial_ms=200, max_ms=60_000)
    assert [policy.wait_ms(failures, 0) for failures in (1, 2, 3, 9, 10, 999)] == [
        200,
        400,
        800,
        51_200,
        60_000,
        60_000,
    ]
    assert (policy.wait_ms(1, 0.5), policy.wait_ms(1, 1)) == (150, 100)


def test_what_fails_sleeps_until_its_next_attempt_and_holds_up_only_its_key() -> None:
    course = Course("a", "a", "b", policy=THRICE)
    assert course.start() == [1, 3]
    assert course.end(1, Result.FAILED) is None
    assert (course.deliveries.sleeping, course.deliveries.waiting) == (1, 2)
    assert course.deliveries.next_wakeup() == 100
    course.end(3)
    assert course.at(99) == []
    assert course.at(100) == [1]
    assert course.attempts == {1: 2}
    course.end(1, Result.ABSENT)
    assert course.deliveries.next_wakeup() == 300
    assert course.cursor == 0
    assert course.at(300) == [1]
    course.end(1)
    assert course.start() == [2]
    assert course.deliveries.next_wakeup() is None
    assert course.deliveries.counters.retried == 2


def test_after_the_last_attempt_the_event_is_given_up_and_its_key_goes_on() -> None:
    course = Course("a", "a", policy=THRICE)
    for at in (0, 100, 300):
        assert course.at(at) == [1]
        given_up = course.end(1, Result.FAILED)
    assert given_up is not None
    assert (given_up.change.revision, given_up.attempts) == (1, 3)
    assert course.start() == [2]
    assert course.cursor == 1
    assert course.deliveries.counters.failed == 1


def test_interruptions_do_not_use_up_attempts() -> None:
    course = Course("a", policy=THRICE, limits=TINY)
    for result in (Result.INTERRUPTED, Result.FAILED, Result.INTERRUPTED, Result.FAILED):
        assert course.at(course.now_ms + 1000) == [1]
        assert course.end(1, result) is None
    course.at(course.now_ms + 1000)
    assert course.attempts == {1: 5}
    given_up = course.end(1, Result.INTERRUPTED)
    assert given_up is not None
    assert given_up.attempts == 5


def test_what_is_refused_was_not_attempted_and_is_not_tried_again() -> None:
    course = Course("a", policy=THRICE)
    course.start()
    given_up = course.end(1, Result.REFUSED)
    assert given_up is not None
    assert given_up.attempts == 0


def test_a_delivery_that_takes_too_long_has_failed_and_its_late_end_is_ignored() -> None:
    policy = Policy(attempts_max=2, initial_ms=10, timeout_ms=50)
    course = Course("a", "b", "c", policy=policy, limits=TINY)
    assert course.start() == [1, 2]
    late = course.flying[1]
    assert course.deliveries.is_running(late)
    course.now_ms = 20
    course.end(2)
    assert course.start() == [3]
    assert course.deliveries.next_wakeup() == 50
    assert course.deliveries.overdue(49) == []
    assert course.deliveries.overdue(69) == [late]
    course.now_ms = 50
    course.end(1, Result.FAILED)
    assert course.deliveries.next_wakeup() == 60
    assert not course.deliveries.is_running(late)
    assert course.at(60) == [1]
    assert course.deliveries.finished(late, Result.DELIVERED, 60) is None
    assert course.deliveries.counters.delivered == 1
    assert course.attempts == {1: 2, 3: 1}
    assert course.deliveries.next_wakeup() == 70


def test_a_function_that_nobody_runs_is_waited_for_and_uses_up_no_attempt() -> None:
    course = Course("a", "b", "c", policy=PATIENT, limits=TINY)
    assert course.start() == [1, 2]
    course.end(1, Result.ABSENT)
    course.end(2)
    assert course.start() == []
    assert course.deliveries.next_wakeup() == 1000
    assert course.at(1000) == [1, 3]
    assert course.attempts == {1: 1, 3: 1}


def test_it_is_not_waited_for_any_longer_once_it_is_there() -> None:
    course = Course("a", policy=PATIENT)
    course.start()
    course.end(1, Result.ABSENT)
    assert (course.deliveries.is_held, course.start()) == (True, [])
    course.deliveries.release()
    assert (course.deliveries.is_held, course.start()) == (False, [1])
    assert course.deliveries.next_wakeup() is None


def test_nothing_starts_while_paused_and_nothing_asks_to_be_woken() -> None:
    course = Course("a", "b", "b", policy=THRICE)
    course.start()
    course.end(1, Result.FAILED)
    course.deliveries.paused = True
    assert course.deliveries.paused
    course.end(2)
    assert course.at(5000) == []
    assert course.deliveries.next_wakeup() is None
    assert course.offer("c")
    course.deliveries.paused = False
    assert sorted(course.start()) == [1, 3, 4]


def test_a_pause_does_not_end_when_a_function_is_no_longer_waited_for() -> None:
    course = Course("a", policy=PATIENT)
    course.start()
    course.end(1, Result.ABSENT)
    course.deliveries.paused = True
    assert course.at(1000) == []
    course.deliveries.paused = False
    assert course.start() == [1]


def test_the_newest_event_of_a_key_within_the_delay_stands_for_all() -> None:
    course = Course("a", "b", "a", policy=CALM)
    assert (course.start(), course.deliveries.sleeping) == ([], 2)
    course.now_ms = 5
    course.offer("a")
    assert course.deliveries.waiting == 2
    assert course.at(10) == [2]
    course.end(2)
    assert course.cursor == 0
    assert course.at(14) == []
    assert course.at(15) == [4]
    assert course.cursor == 0
    course.end(4)
    assert course.cursor == 4
    assert course.deliveries.counters.coalesced == 2


def test_an_event_that_is_always_followed_by_another_waits_ten_delays_at_most() -> None:
    course = Course("a", policy=CALM)
    started = []
    for now_ms in range(5, 125, 5):
        course.offer("a")
        started += [(now_ms, revision) for revision in course.at(now_ms)]
    assert started == [(100, 21)]


def test_events_gather_behind_the_one_of_their_key_that_runs_or_is_retried() -> None:
    course = Course("a", policy=Policy(attempts_max=2, initial_ms=100, debounce_ms=10))
    assert course.at(10) == [1]
    course.offer("a")
    course.end(1, Result.FAILED)
    course.now_ms = 15
    course.offer("a")
    assert course.at(50) == []
    assert course.cursor == 0
    assert course.at(110) == [1]
    course.end(1)
    assert course.cursor == 1
    assert course.deliveries.sleeping == 1
    assert course.start() == [3]
    course.end(3)
    assert course.cursor == 3
    assert course.deliveries.next_wakeup() is None


def test_a_checkpoint_of_nothing_unfinished_is_how_far_was_read() -> None:
    course = Course("a")
    course.start()
    course.end(1)
    assert course.deliveries.checkpoint(9) == Checkpoint(9)


def test_a_checkpoint_names_what_is_unfinished_below_what_is_done() -> None:
    course = Course("a", "b", "b", "c", "d", policy=THRICE, limits=Limits(in_flight_max=3))
    assert course.start() == [1, 2, 4]
    course.end(1, Result.FAILED)
    course.end(4)
    course.deliveries.paused = True
    pending = (Pending(1, attempt=2, failures=1), Pending(2, 2, interruptions=1), Pending(3))
    assert course.checkpoint() == Checkpoint(4, pending, paused=True)


def test_a_checkpoint_stays_below_all_that_was_not_tried_yet() -> None:
    course = Course("a", "b", "a", limits=Limits(in_flight_max=1))
    assert course.checkpoint() == Checkpoint(0)
    course.start()
    assert course.checkpoint() == Checkpoint(1, (Pending(1, 2, interruptions=1),))


def test_deliveries_go_on_from_a_checkpoint_where_they_were() -> None:
    pending = (Pending(1, 3, failures=2), Pending(2, 5, 0, 2, redriven=True), Pending(3))
    course = Course(policy=THRICE, limits=TINY, after=Checkpoint(4, pending))
    for each in pending:
        source = Course("a", "a", "b").changes[each.revision]
        course.deliveries.take_up(each, source if each.revision < 3 else None)
    assert course.deliveries.last_lost == (3, 3)
    assert course.start() == [1]
    assert course.attempts == {1: 3}
    given_up = course.end(1, Result.FAILED)
    assert given_up is not None
    course.start()
    assert course.flying[2].redriven
    assert course.end(2, Result.INTERRUPTED) is not None
    assert course.deliveries.counters.lost == 1
    assert course.deliveries.position == 4


def test_what_was_gathered_is_gathered_again_after_a_checkpoint() -> None:
    course = Course(policy=CALM, after=Checkpoint(4, (Pending(1), Pending(2, 2), Pending(4))))
    source = Course("a", "b", "c", "b", "b", "a").changes
    for pending in (Pending(1), Pending(2, 2), Pending(4)):
        course.deliveries.take_up(pending, source[pending.revision])
    assert course.start() == [2]
    assert course.deliveries.offer(source[5])
    assert course.deliveries.offer(source[6])
    assert course.at(10) == [6]
    course.end(2)
    assert course.start() == [5]
    assert course.deliveries.counters.coalesced == 2


def test_a_gathering_across_the_cursor_is_read_and_gathered_again() -> None:
    course = Course("a", "b", policy=CALM)
    course.now_ms = 5
    for key in "caa":
        course.offer(key)
    assert course.at(10) == [2]
    course.end(2)
    checkpoint = course.checkpoint()
    assert checkpoint == Checkpoint(2, (Pending(5, since=1),))
    again = Course(policy=CALM, after=checkpoint)
    again.deliveries.take_up(checkpoint.pending[0], course.changes[5])
    assert again.cursor == 0
    assert again.checkpoint() == checkpoint
    again.changes = {1: course.changes[1], 2: course.changes[2]}
    for key in "caa":
        assert again.cursor == 0
        again.offer(key)
    assert again.at(10) == [3, 5]
    assert again.cursor == 0
    again.end(5)
    assert again.cursor == 2


def test_what_was_gathered_beyond_the_cursor_and_is_selected_no_more_holds_up_nothing() -> None:
    course = Course("a", "b", "a", policy=CALM)
    again = Course(policy=CALM, after=Checkpoint(2, (Pending(3, since=1),)))
    again.deliveries.take_up(Pending(3, since=1), course.changes[3])
    assert again.deliveries.cursor(2) == 0
    assert again.deliveries.cursor(3) == 3


def test_a_dead_letter_is_delivered_again_behind_what_waits_with_all_its_attempts() -> None:
    course = Course("a", "b", "b", policy=THRICE)
    letter = GivenUp(course.changes[1], 3)
    course.start()
    course.end(1, Result.REFUSED)
    course.deliveries.redrive([letter])
    course.deliveries.redrive([letter])
    assert course.start() == [1]
    assert course.flying[1].redriven
    assert course.attempts[1] == 4
    assert course.end(1, Result.FAILED) is None
    assert course.checkpoint().pending[0] == Pending(1, 5, failures=1, redriven=True)
    counters = course.deliveries.counters
    assert (counters.redriven, counters.matched, counters.failed) == (1, 3, 1)


def test_a_dead_letter_that_will_be_offered_anyway_is_not_delivered_twice() -> None:
    course = Course(policy=THRICE)
    letter = GivenUp(Course("a").changes[1], 3)
    course.deliveries.redrive([letter])
    assert course.offer("a")
    assert course.start() == [1]
    assert course.attempts == {1: 1}
