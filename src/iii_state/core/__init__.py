"""What state is: values, operations, commands, changes, and the port that stores implement.

Pure: no asyncio, files, sockets, clock or randomness. Time and ids come in as arguments.
"""
