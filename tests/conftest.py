"""What all tests share: one thread each, since the suite runs several at once."""

import os

import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)
