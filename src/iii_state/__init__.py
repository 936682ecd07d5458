"""Durable, reactive key-value state for iii workers and Python programs."""

__version__ = "0.1.0"
