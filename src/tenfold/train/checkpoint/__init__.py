"""Checkpoints: asynchronous, sharded, checksummed, atomic. Front door of the room."""

from tenfold.train.checkpoint.checkpointer import Checkpointer, CheckpointState, Found
from tenfold.train.checkpoint.format import Checkpoint, Damaged, weights_digest

__all__ = ["Checkpoint", "CheckpointState", "Checkpointer", "Damaged", "Found", "weights_digest"]
