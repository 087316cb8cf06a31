"""Fixtures of the tests of tracking."""

from registering import evaluation_dir, new_store, register, store
from trainings import down

__all__ = ["down", "evaluation_dir", "new_store", "register", "store"]
