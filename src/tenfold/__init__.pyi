# What `import tenfold` offers; docs/architecture.md says what for, tests/test_doors.py holds the list.
from .campaign import learner as learner
from .campaign import plan_model as plan_model
from .campaign import run_campaign as run_campaign
from .campaign import watch as watch
from .campaign import watch_trainer as watch_trainer
from .config import Campaign as Campaign
from .config import load_campaign as load_campaign
from .core import InputError as InputError
from .core import Interrupted as Interrupted
from .core import NotFinite as NotFinite
from .core import TenfoldError as TenfoldError
from .ledger import Ledger as Ledger
from .scaling import predict_table as predict_table
from .train import Observer as Observer
from .train import execute as execute
from .train import train_step as train_step

__version__: str
