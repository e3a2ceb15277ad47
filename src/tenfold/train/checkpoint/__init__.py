"""Checkpoints: asynchronous, sharded, checksummed, atomic. Front door of the room."""

from tenfold.train.checkpoint.checkpointer import Checkpointer, CheckpointState, Found
from tenfold.train.checkpoint.digest import weights_digest
from tenfold.train.checkpoint.manifest import Checkpoint, Damaged

__all__ = ["Checkpoint", "CheckpointState", "Checkpointer", "Damaged", "Found", "weights_digest"]
