"""Text to frames and back. Pure: no sockets, no clock.

`docs/protocol.md` describes every frame.
"""
