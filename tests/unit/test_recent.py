"""The newest changes in memory: all that fit, or the newest batch while nobody reads."""

from __future__ import annotations

from iii_state.core.changes import Change, Entry
from iii_state.stores.recent import (
    CHANGE_OVERHEAD_BYTES,
    LET_GO_BYTES,
    READER_BATCHES,
    RecentChanges,
)

SIZE = CHANGE_OVERHEAD_BYTES + 1


def add(recent: RecentChanges, revision: int) -> None:
    entry = Entry(b"1", revision, revision, 0, 0)
    recent.add([Change(revision, "s", "k", None, entry, 0)], 1)


def test_the_oldest_make_room() -> None:
    recent = RecentChanges(3 * SIZE, keeps_unread=True)
    for revision in range(1, 11):
        add(recent, revision)

    assert recent.after == 7
    assert [change.revision for change in recent.since(8)] == [9, 10]


def test_one_batch_is_kept_however_large() -> None:
    recent = RecentChanges(0, keeps_unread=True)
    add(recent, 1)

    assert recent.after == 0


def test_while_nobody_reads_the_newest_batch_is_kept() -> None:
    recent = RecentChanges(100 * SIZE, keeps_unread=False)
    for revision in range(1, 51):
        add(recent, revision)

    assert recent.after == 49
    assert [change.revision for change in recent.since(49)] == [50]


def test_a_reader_has_more_kept_for_it() -> None:
    recent = RecentChanges(100 * SIZE, keeps_unread=False)
    for revision in range(1, 11):
        add(recent, revision)

    assert not recent.reach(5)
    for revision in range(11, 51):
        add(recent, revision)
    assert recent.after == 9
    assert recent.reach(9)


def test_a_reader_that_does_not_come_back_is_forgotten() -> None:
    recent = RecentChanges(100 * SIZE, keeps_unread=False)
    recent.reach(0)
    for revision in range(1, READER_BATCHES + 2):
        add(recent, revision)

    assert recent.after == READER_BATCHES


def test_what_was_kept_for_it_is_let_go_of_in_parts() -> None:
    recent = RecentChanges(READER_BATCHES * LET_GO_BYTES, keeps_unread=False)
    recent.reach(0)
    for revision in range(1, READER_BATCHES + 1):
        recent.add([Change(revision, "s", "k", None, None, 0)], LET_GO_BYTES // 4)
    assert recent.after == 0

    after = []
    for revision in range(READER_BATCHES + 1, 2 * READER_BATCHES):
        add(recent, revision)
        after.append(recent.after)
    assert after[:3] == [4, 8, 12]
    assert after[-1] == 2 * READER_BATCHES - 2


def test_without_changes_nothing_is_reached() -> None:
    assert not RecentChanges(100, keeps_unread=True).reach(0)
