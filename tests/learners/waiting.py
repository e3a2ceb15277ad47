"""Waiting, under its old path."""

from tests.waiting import until

__all__ = ["until"]
