"""Names that moved to core.text."""

from tenfold.core.text import multiple_in_interval as times
from tenfold.core.text import percent

__all__ = ["percent", "times"]
