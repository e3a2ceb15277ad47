"""What all tests share: one thread each, since several run at once; and no deadlines, since a machine may be busy."""

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from tenfold.core.processes import Children

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
settings.register_profile("tenfold", deadline=None)
settings.load_profile("tenfold")


@pytest.fixture
def children() -> Iterator[Children]:
    """Child processes that do not outlive the test."""
    made = Children()
    yield made
    made.stop_all(0.0)
