"""Threads of the tests of this room."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def _one_thread(one_thread: None) -> None:
    """See `one_thread`."""
