"""What tests of supervision and of faults share."""

from collections.abc import Iterator

import pytest

from tenfold.learners.supervise import Children


@pytest.fixture
def children() -> Iterator[Children]:
    """Children that do not outlive the test."""
    made = Children()
    yield made
    made.stop_all(0.0)
