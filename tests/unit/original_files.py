"""Writes files as the original engine writes them."""

from __future__ import annotations

import struct
from pathlib import Path


def archive(text: bytes) -> bytes:
    """The file for a JSON text."""
    length = len(text)
    if length <= 8:
        return text.ljust(8, b"\xff")
    root = (length + 3) // 4 * 4
    mangled = length % 64 + 128 + length // 64 * 256
    return text.ljust(root, b"\0") + struct.pack("<Ii", mangled, -root)


def file_name(scope: str) -> str:
    """The name of a scope's file."""
    kept = b"-_.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return (
        "".join(chr(byte) if byte in kept else f"%{byte:02X}" for byte in scope.encode()) + ".bin"
    )


def write_scope(directory: Path, scope: str, text: str) -> Path:
    """Keep a scope in a directory, which is made."""
    directory.mkdir(exist_ok=True)
    path = directory / file_name(scope)
    path.write_bytes(archive(text.encode()))
    return path
