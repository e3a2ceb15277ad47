"""What all tests share: one thread each, since several run at once; and no deadlines, since a machine may be busy."""

import os

import torch
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
settings.register_profile("tenfold", deadline=None)
settings.load_profile("tenfold")
