"""What a change is worth: the ladder trained without and with it, side by side, judged and kept in the ledger."""

from tenfold.experiments.derisk.kept import changes_of
from tenfold.experiments.derisk.lines import derisk_lines
from tenfold.experiments.derisk.stage import derisk

__all__ = ["changes_of", "derisk", "derisk_lines"]
