"""What tests of faults share."""

from collections.abc import Iterator

import pytest

from tenfold.learners.faults.proxy import FaultyProxy
from tests.learners.faults.echo import echo_server


@pytest.fixture
def proxy() -> Iterator[FaultyProxy]:
    with echo_server() as port, FaultyProxy("127.0.0.1", port) as made:
        yield made
