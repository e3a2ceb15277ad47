"""What all tests share: one thread each, since several run at once; no deadlines, since a machine may
be busy; and the same examples every time, since a red run must be one that anybody can repeat."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch
from hypothesis import settings

from tenfold.core.processes import Children
from tests.once import shared_folder
from tests.waiting import PATIENCE_S

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
settings.register_profile("tenfold", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)  # `pytest --hypothesis-profile explore`: other examples each time
settings.load_profile("tenfold")


def pytest_configure() -> None:
    """A worker that writes its coverage at the end is killed after ten seconds by default, and a third of it lost."""
    with suppress(ImportError):
        from xdist.workermanage import NodeManager

        NodeManager.EXIT_TIMEOUT = PATIENCE_S


SLOWEST = ("learners", "campaign", "experiments", "data", "train")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rooms whose tests take longest come first, so that the last of several workers does not end with one of them."""
    places = {name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.nodeid.split("/")[1], len(places)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # of the process that leads
        shutil.rmtree(shared_folder(), ignore_errors=True)


@pytest.fixture(autouse=True)
def handlers_of_before() -> Iterator[None]:
    """The command line, called inside a test, takes the signals for itself; the next test must not find it so."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def children() -> Iterator[Children]:
    """Child processes that do not outlive the test."""
    made = Children()
    yield made
    made.stop_all(0.0)
