"""Stores: each implements `iii_state.core.store.Store` and imports no other."""
