"""What may reach a terminal."""

from __future__ import annotations

import io

import pytest

from iii_state.terminal import has_colours, safe, safe_name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä 漢 🎉", "plain ä 漢 🎉"),
        ("\x1b[31m", "\\u001b[31m"),
        ("\x07\x7f\x9b", "\\u0007\\u007f\\u009b"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("\ufeff\u200b", "\\ufeff\\u200b"),
        ("\ud800", "\\ud800"),
        ("a\rb", "a\\u000db"),
    ],
)
def test_control_and_bidi_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert safe(text) == shown
    assert safe_name(text) == shown


def test_text_keeps_its_lines_and_a_name_is_one_line() -> None:
    assert safe("a\n\tb") == "a\n\tb"
    assert safe_name("a\n\tb") == "a\\u000a\\u0009b"


def test_colours_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert has_colours(io.StringIO())

    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colours(io.StringIO())
