# What other rooms may use of this one. The package loads each name when it is first asked for.
from .failures import joined_histories as joined_histories
from .failures import read_history as read_history
from .page.server import PORT as PORT
from .page.server import watch_page as watch_page
from .reading import last_write as last_write
from .reading import ledger_of as ledger_of
from .reliability import Reliability as Reliability
from .reliability import reliability_lines as reliability_lines
from .reliability import reliability_of as reliability_of
from .signals.assembly import signals_of as signals_of
from .signals.assembly import watched as watched
from .signals.board import SignalBoard as SignalBoard
from .signals.stall import StallWatch as StallWatch
