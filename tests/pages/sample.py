"""A small report, and a reader of pages that checks their HTML."""

from html.parser import HTMLParser
from typing import Any

Record = dict[str, Any]
TARGET, TARGET_STEPS = (2.1e6, 4.2e6), 400
STARTED = 1_790_000_725.0


def base() -> Record:
    """A report of the same shape as collect's, as small as it gets."""
    documents = {"documents_in": 900, "documents_kept": 700, "exact_duplicates": 50, "near_duplicates": 50}
    gone = {"held_out": 100, "contaminated": 0, "dropped_after_decontamination": 0, "rejected": {}}
    sizes = dict.fromkeys(
        ("bytes_in", "bytes_kept", "exact_duplicates_bytes", "near_duplicates_bytes", "held_out_bytes"), 9_000_000
    )
    peers = {f"{peer}_bits_per_byte": value for peer, value in (("gzip", 3.1), ("zstd", 2.9), ("xz", 2.7))}
    score = {"bits_per_byte": 1.7, "perplexity": 35.2, "documents": 70, "bytes": 800_000, **peers}
    per_step = TARGET[1] / TARGET_STEPS
    losses = [(step, 3.5 + 3 * step**-0.5) for step in range(1, TARGET_STEPS)]
    return {
        "campaign": "a small campaign",
        "holdouts": {"iid": score, "ood": score},
        "data": {
            "funnel": {**documents, **gone, **sizes, "contaminated_bytes": 0, "rejected_bytes": {}},
            "sources": [],
            "holdouts": [],
            "audit": [],
            "build": [],
            "bytes": 9_000_000,
            "bytes_per_token": 3.1,
            "epochs": 1.4,
            "manifest": "cd" * 32,
        },
        "throughput": {
            "tokens_per_second": 41_000,
            "mfu": 0.42,
            "overhead": 0.01,
            "flops_per_token": 1.3e7,
            "seconds": 121.0,
            "threads": 2,
            "compute_dtype": "float32",
            "compiled": True,
        },
        "weights_digest": "ab" * 32,
        "model": {"parameters": 2_100_000, "depth": 4, "width": 128},
        "run": {"fingerprint": "ef" * 32, "started_at": STARTED, "steps": TARGET_STEPS, "tokens": TARGET[1]},
        "curves": {"train/loss": losses, "train/tokens_per_second": [(s, 4e4 * per_step) for s, _ in losses]},
        "events": [],
        "incidents": [],
        "environment": {"cpu": "a CPU", "gpus": []},
        "config": {"name": "a small campaign"},
    }


class Page(HTMLParser):
    """Checks that tags nest, and gathers the words."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())
