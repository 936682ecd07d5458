"""Names in messages: short, whatever they hold."""

from __future__ import annotations

from iii_state.core.names import SHOWN_MAX, quoted, shortened


def test_a_name_is_shown_whole_up_to_a_length_and_cut_beyond() -> None:
    assert shortened("k" * SHOWN_MAX) == "k" * SHOWN_MAX
    assert shortened("k" * (SHOWN_MAX + 1)) == "k" * SHOWN_MAX + "..."
    assert shortened("") == ""


def test_what_cannot_be_printed_is_escaped_in_quotes() -> None:
    assert quoted("a\nb'") == '"a\\nb\'"'
    assert quoted("ä" * 1_000_000) == f"'{'ä' * SHOWN_MAX}...'"
