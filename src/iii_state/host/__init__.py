"""The edge: sockets, WebSocket frames, process signals."""
