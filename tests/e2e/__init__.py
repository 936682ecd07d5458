"""The installed program as a process, driven by programs of the real SDK packages."""
