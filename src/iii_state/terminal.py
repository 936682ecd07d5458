"""What may reach a terminal: colours if wanted, never control or bidi characters of the data.

Scopes, keys, values and messages come from anybody. On a terminal a stray escape sequence can
repaint what was printed, and a bidi override can make it read as something else. Such characters
are shown as escapes there; into a pipe everything goes as it is.
"""

from __future__ import annotations

import os
import re
import sys
from typing import IO, Any

import click

_UNSAFE = (
    "\x00-\x1f\x7f-\x9f"
    "\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2028\u2029\ufeff\ufff9-\ufffb"
    "\ud800-\udfff"
)
_unsafe_in_text = re.compile(f"[{_UNSAFE}]".replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))
_unsafe_in_name = re.compile(f"[{_UNSAFE}]")


def safe(text: str) -> str:
    """Text for a terminal; line feeds and tabs stay."""
    return _unsafe_in_text.sub(_escape, text)


def safe_name(text: str) -> str:
    """A name for a terminal, on one line whatever is in it."""
    return _unsafe_in_name.sub(_escape, text)


def is_terminal(stream: IO[Any] | None = None) -> bool:
    """Whether somebody reads along. Standard output unless another stream is given."""
    return (stream or sys.stdout).isatty()


def has_colours(stream: IO[Any] | None = None) -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR; anywhere with FORCE_COLOR."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)


def paint(text: str, colour: str | None) -> str:
    """Coloured text for standard output, or the text itself when there are no colours."""
    return click.style(text, fg=colour) if colour and has_colours() else text


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
