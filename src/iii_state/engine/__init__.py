"""Who is connected, who answers which function, and what a change sets off.

Async, but without sockets: the host hands text in and takes frames out.
"""
