"""Every error tenfold raises on purpose, and the exit status each one becomes.

TenfoldError            exit 1: the run or a check failed
├── NotFinite           exit 1: a loss or gradient that is no finite number
├── InputError          exit 2: what the user gave is wrong (file, key or record, and what is allowed)
└── Interrupted         exit 130: SIGINT or SIGTERM; state is saved, the message says how to go on
"""


class TenfoldError(Exception):
    """The run or a check failed. The message is one line that names the remedy."""

    exit_code = 1


class NotFinite(TenfoldError):
    """Training met a loss or gradient that is not finite. The message names step, batch and last good checkpoint."""


class InputError(TenfoldError):
    """What the user gave is wrong: the message names the file, key or record and what is allowed."""

    exit_code = 2


class Interrupted(TenfoldError):
    """The run was asked to stop; it has saved its state. The message says how to go on."""

    exit_code = 130
