"""Measures the server beside Redis, in one run; `README.md` explains how."""
