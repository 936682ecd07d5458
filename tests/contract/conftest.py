"""Asserts inside the shipped suite explain themselves like those in our own tests."""

import pytest

pytest.register_assert_rewrite("iii_state.testing.store_contract")
