"""The coordinator's memory: lives, their leases, and who stalls. Front door of the room.

`Leases` and `Lives` share one book, `Book(path, SCHEMA)`.
"""

from tenfold.learners.coordinator.book import Book, Fenced
from tenfold.learners.coordinator.leases import SCHEMA as _LEASES
from tenfold.learners.coordinator.leases import Lease, Leases, Progress
from tenfold.learners.coordinator.liveness import Liveness
from tenfold.learners.coordinator.lives import SCHEMA as _LIVES
from tenfold.learners.coordinator.lives import Life, Lives

SCHEMA = _LEASES + _LIVES

__all__ = ["SCHEMA", "Book", "Fenced", "Lease", "Leases", "Life", "Liveness", "Lives", "Progress"]
