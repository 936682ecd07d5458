from __future__ import annotations

from delivery_bench import change_of

from iii_state.core.dead_letters import DeadLetter, DeadLetters, Fault


def letter(revision: int, trigger: str = "t", value: bytes = b"1") -> DeadLetter:
    return DeadLetter(trigger, change_of(revision, value=value), 1, Fault("code", "why"), 0)


def revisions(letters: list[DeadLetter]) -> list[int]:
    return [letter.change.revision for letter in letters]


def test_letters_are_told_in_pages_in_the_order_of_parking() -> None:
    letters = DeadLetters()
    for revision in (5, 2, 9):
        assert letters.park(letter(revision)) == []
    letters.park(letter(1, "other"))
    first, after = letters.page("t", limit=2)
    assert after is not None
    letters.remove("t@5")
    letters.park(letter(3))
    second, end = letters.page("t", after, limit=2)
    assert (revisions(first), revisions(second), end) == ([5, 2], [9, 3], None)
    assert revisions(letters.page(None)[0]) == [2, 9, 1, 3]
    assert (len(letters), letters.count("t"), letters.count("nobody")) == (4, 3, 0)


def test_a_letter_parked_again_takes_the_place_of_itself() -> None:
    letters = DeadLetters()
    for revision in (1, 2, 1):
        letters.park(letter(revision))
    assert revisions(letters.page("t")[0]) == [2, 1]


def test_past_the_bound_the_oldest_make_room() -> None:
    letters = DeadLetters(letters_max=2)
    dropped = [letters.park(letter(revision)) for revision in (1, 2, 3)]
    assert [revisions(each) for each in dropped] == [[], [], [1]]
    assert (letters.dropped, letters.count("t")) == (1, 2)


def test_what_letters_weigh_is_bounded_but_the_newest_is_kept() -> None:
    letters = DeadLetters(bytes_max=5000)
    letters.park(letter(1))
    letters.park(letter(2))
    assert len(letters) == 2
    assert revisions(letters.park(letter(3, value=b"1" * 9000))) == [1, 2]
    assert revisions(letters.page(None)[0]) == [3]


def test_letters_are_chosen_by_id_or_trigger_or_all() -> None:
    letters = DeadLetters()
    for revision, trigger in ((1, "t"), (2, "u"), (3, "t")):
        letters.park(letter(revision, trigger))
    assert revisions(letters.chosen(None, None)) == [1, 2, 3]
    assert revisions(letters.chosen(None, "t")) == [1, 3]
    assert revisions(letters.chosen(["t@3", "u@2", "t@7"], None)) == [2, 3]
    assert revisions(letters.chosen(["t@3", "u@2"], "u")) == [2]


def test_the_last_letter_of_a_trigger_can_be_removed_once() -> None:
    letters = DeadLetters()
    parked = letter(1)
    letters.park(parked)
    assert letters.remove("t@1") is parked
    assert letters.remove("t@1") is None
    assert (len(letters), letters.count("t")) == (0, 0)


def test_another_one_is_empty_and_has_the_same_bounds() -> None:
    letters = DeadLetters(letters_max=1, bytes_max=5000)
    letters.park(letter(1))
    other = letters.another()
    assert len(other) == 0
    assert [revisions(other.park(letter(revision))) for revision in (2, 3)] == [[], [2]]
    assert revisions(letters.page(None)[0]) == [1]
