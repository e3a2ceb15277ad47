"""What to do about an incident, in a sentence: by the remedy that a detector suggests, else by kind."""

from collections.abc import Mapping
from typing import Any

from tenfold.ledger import IncidentKind, Remedy

REMEDIES: Mapping[str, str] = {
    Remedy.WATCH: "Nothing yet: see whether it goes on.",
    Remedy.REWIND_AND_SKIP: "Go back to the last good checkpoint and leave out the batches since.",
    Remedy.REWIND: "Go back to the last good checkpoint and train the same batches again.",
    Remedy.LOWER_LEARNING_RATE: "Lower the learning rate: in the run's configuration, or in a fork of it first.",
    Remedy.EXAMINE_DATA: "Show the samples with `tenfold data show` and see what is in them.",
    Remedy.EXECUTE_AGAIN: "Execute the step again, here and elsewhere: what agrees with what tells a defect of the "
    "device from the learning itself.",
    Remedy.PROBE_DEVICE: "Measure the device with `tenfold doctor`, and take it out when it fails.",
    Remedy.CHECK_INPUT: "See what keeps the data, the link or the disk from being as fast as before.",
    Remedy.QUARANTINE: "Keep the learner out until its machine is examined.",
    Remedy.FREE_STORAGE: "Make room, or see whether the disk fails.",
    Remedy.RESTART: "Save and start the process again.",
}
KINDS: Mapping[str, str] = {
    IncidentKind.FAILED: "Read the sentence: it names the file or key. Mend it and run the same command again: it goes "
    "on from the last checkpoint.",
    IncidentKind.KILLED: "The run has gone on by itself. Look for the reason outside of it: the kernel's log for "
    "memory, the scheduler's for a time limit or a lost node.",
    IncidentKind.NOT_FINITE: "The update was not applied. Look at the gradient norm before the step and show the "
    "samples with `tenfold data show`; lower the learning rate if the norm grew before, leave the batch out if not.",
    IncidentKind.OBSERVER_FAILED: "Training went on without it. Mend the observer; it is back when the run is resumed.",
}
OTHERWISE = "Look at its evidence; when it is explained, it is closed with a verdict."


def action_for(kind: str, data: Mapping[str, Any]) -> str:
    """A sentence for people. A remedy of a newer version is shown as it is."""
    remedy = data.get("action")
    return REMEDIES.get(remedy, str(remedy)) if remedy else KINDS.get(kind, OTHERWISE)
