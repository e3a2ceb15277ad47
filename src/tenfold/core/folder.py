"""Where everything of a campaign lies, and the lock that keeps two commands out of it at once."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tenfold.core.locks import exclusive

OWN_FOLDERS = frozenset({"corpora", "ladder", "learners", "cluster", "checkpoints", "export", "stalls", "trackers"})
"""Folders of a campaign that tenfold writes, beside its corpus; `cluster` is what `learners` was called before."""
OWN_FILES = frozenset(
    {
        "campaign.toml",
        "train.json",
        "evaluation.json",
        "evaluation-best.json",
        "plan.json",
        "report.json",
        "report.html",
    }
)
"""Files of a campaign that are no text to train on, hidden ones and those of the ledger aside."""

OWNER_FILE = "tenfold-owner.json"
"""Says in a folder of checkpoints whose they are, wherever `checkpoint.url` put it."""


@dataclass(frozen=True)
class CampaignFiles:
    """The campaign directory."""

    directory: Path
    corpus: str = "data"
    """Where the corpus lies in it: `data`, or one of `corpora` that a finished model was trained on."""

    @property
    def data(self) -> Path:
        """Corpus: shards, holdouts, tokenizer, manifest."""
        return self.directory / self.corpus

    @property
    def corpora(self) -> Path:
        """Corpora that runs here were trained on and that are not the newest any more, each under its digest."""
        return self.directory / "corpora"

    @property
    def ledger(self) -> Path:
        """Metrics, events, predictions, incidents."""
        return self.directory / "ledger.sqlite"

    @property
    def stalls(self) -> Path:
        """Where every thread stood when no step came for long, a text file each."""
        return self.directory / "stalls"

    @property
    def train_result(self) -> Path:
        """What training ended with."""
        return self.directory / "train.json"

    @property
    def evaluation(self) -> Path:
        """Scores on the holdouts."""
        return self.directory / "evaluation.json"

    @property
    def evaluation_of_best(self) -> Path:
        """Scores of the best checkpoint, where `checkpoint.keep_best` keeps one."""
        return self.directory / "evaluation-best.json"

    @property
    def audit(self) -> Path:
        """What the isolation audit found."""
        return self.data / "audit.json"

    @property
    def plan(self) -> Path:
        """What `tenfold plan` found for this campaign."""
        return self.directory / "plan.json"

    @property
    def ladder(self) -> Path:
        """Results of the small runs, and their checkpoints while they go on."""
        return self.directory / "ladder"

    @property
    def learners(self) -> Path:
        """State of syncer and learners, their merge log and what they printed; `cluster` where it was begun as that."""
        former = self.directory / "cluster"
        return former if former.is_dir() else self.directory / "learners"

    @property
    def learners_identity(self) -> Path:
        """Of which run that state is."""
        return self.learners / "identity.json"

    @property
    def export(self) -> Path:
        """Default place of the export."""
        return self.directory / "export"

    @property
    def report_json(self) -> Path:
        """Everything the report shows."""
        return self.directory / "report.json"

    @property
    def report_html(self) -> Path:
        """The report for people."""
        return self.directory / "report.html"

    def locked(self) -> AbstractContextManager[None]:
        """Hold the campaign alone.

        Raises TenfoldError when another process has it, InputError when the folder cannot be written.
        """
        return exclusive(self.directory / ".lock")
