"""The coordinator's memory: lives, their leases, and who stalls. Front door of the room.

`Leases` and `Lives` share one book, `Book(path, SCHEMA)`.
"""

from tenfold.cluster.coordinator.book import Book, Fenced
from tenfold.cluster.coordinator.leases import SCHEMA as _LEASES
from tenfold.cluster.coordinator.leases import Lease, Leases, Progress
from tenfold.cluster.coordinator.liveness import Liveness
from tenfold.cluster.coordinator.lives import SCHEMA as _LIVES
from tenfold.cluster.coordinator.lives import Life, Lives

SCHEMA = _LEASES + _LIVES

__all__ = ["SCHEMA", "Book", "Fenced", "Lease", "Leases", "Life", "Liveness", "Lives", "Progress"]
