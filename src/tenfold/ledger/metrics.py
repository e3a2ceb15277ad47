"""Every figure of a run that the ledger keeps by step: its name, unit and meaning, in one place.

A name may have parts in braces, which stand for names of the run's own (a holdout, a learner). What is not listed here
cannot be written.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache


@dataclass(frozen=True)
class Metric:
    """A figure by step. `name` may have parts in braces."""

    name: str
    unit: str
    meaning: str

    def matches(self, name: str) -> bool:
        """Whether a name in the ledger is of this metric."""
        return _pattern(self.name).fullmatch(name) is not None


@cache
def _pattern(name: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}", name)
    return re.compile(".+".join(map(re.escape, parts)))


LOSS = "train/loss"
BITS_PER_BYTE = "train/bits_per_byte"
GRAD_NORM = "train/grad_norm"
LEARNING_RATE = "train/learning_rate"
TOKENS_PER_SECOND = "train/tokens_per_second"
MFU = "train/mfu"
OVERHEAD = "train/overhead"
PEAK_MEMORY = "train/peak_memory"
UPDATE_NORM = "train/update_norm"
WEIGHTS_DIGEST = "digest/weights"
GRADIENTS_DIGEST = "digest/gradients"

METRICS = (
    Metric(LOSS, "nats/token", "mean cross-entropy of the step's batch, all ranks or learners together"),
    Metric(BITS_PER_BYTE, "bits/byte", "the same loss over the bytes of text that the batch stands for"),
    Metric(GRAD_NORM, "1", "Euclidean norm of the whole gradient before clipping"),
    Metric(LEARNING_RATE, "1", "learning rate of the step"),
    Metric(TOKENS_PER_SECOND, "tokens/s", "rate since the report before, scoring of holdouts left out"),
    Metric(MFU, "share", "model FLOP/s over the measured peak of the devices used (Chowdhery et al., 2204.02311)"),
    Metric(OVERHEAD, "share", "time since the report before that was spent outside of steps"),
    Metric(PEAK_MEMORY, "bytes", "highest resident memory of the first rank since training began"),
    Metric(UPDATE_NORM, "1", "Euclidean norm of what a step added to the weights"),
    Metric("block/{block}/grad_norm", "1", "norm of the gradient of one block (a layer, an embedding) before clipping"),
    Metric("block/{block}/update_norm", "1", "norm of what a step added to the weights of one block"),
    Metric("block/{block}/update_ratio", "share", "update norm over the norm of the block's weights"),
    Metric("block/{block}/activation_rms", "1", "root mean square of the residual stream after a block"),
    Metric("block/{block}/attention_logit", "1", "largest attention logit of one sequence of the batch"),
    Metric("block/{block}/qk_entropy", "nats", "spectral entropy of the update of the query and key matrices"),
    Metric("tokens/{band}/loss", "nats/token", "loss on the frequent, middle and rare tokens of one sequence"),
    Metric("numerics/non_finite", "count", "elements of the gradients that are NaN or infinite"),
    Metric("numerics/underflow_share", "share", "gradient elements, not 0, too small for bf16's normal numbers"),
    Metric("numerics/saturation_share", "share", "gradient elements within a factor of two of the largest bf16"),
    Metric(WEIGHTS_DIGEST, "52 bits", "of the xxh3 digest of all weights, in the order of their names"),
    Metric(GRADIENTS_DIGEST, "52 bits", "of the xxh3 digest of all reduced gradients, in the order of their names"),
    Metric("source/{source}/share", "share", "of the batch's samples that begin in one source"),
    Metric("data/fingerprint", "52 bits", "of the xxh3 digest of the batch's tokens"),
    Metric("data/mismatch", "count", "samples of the batch that are not what the index says, of those looked up again"),
    Metric("data/document_length", "tokens", "mean length of the pieces between ends of documents"),
    Metric("data/repetition", "share", "tokens of the batch inside an 8-gram that occurred before in the batch"),
    Metric("data/odd_share", "share", "bytes of the batch's text that are control or replacement characters"),
    Metric("data/novelty", "share", "8-grams of the batch that were not among those of the batches before"),
    Metric("time/{part}", "s", "of a step: data, forward, backward, optimizer, exchange, checkpoint, watching, other"),
    Metric("process/memory", "bytes", "resident memory of the process"),
    Metric(
        "device/{device}/{figure}",
        "its own",
        "temperature (°C), power (W), clock (MHz), throttled (0 or 1), memory errors (count)",
    ),
    Metric("disk/free", "bytes", "free where the campaign lies"),
    Metric("probe/{probe}", "its own", "measured health: matmul (FLOP/s), memory and disk (bytes/s), wrong (count)"),
    Metric("holdout/{holdout}/bits_per_byte", "bits/byte", "score on a holdout; per byte of its text"),
    Metric("link/{learner}/up_bytes_per_second", "bytes/s", "bandwidth from a learner to the syncer, smoothed"),
    Metric("link/{learner}/down_bytes_per_second", "bytes/s", "bandwidth from the syncer to a learner, smoothed"),
    Metric("link/{learner}/round_trip_seconds", "s", "time of a control message there and back, smoothed"),
    Metric("observer/{observer}/{figure}", "its own", "a figure of an observer that is not part of tenfold"),
)


def holdout_metric(holdout: str) -> str:
    """Name of the bits per byte on a holdout."""
    return f"holdout/{holdout}/bits_per_byte"


def link_metric(learner: str, figure: str) -> str:
    """Name of a figure of a learner's link to the syncer: up_bytes_per_second, say."""
    return f"link/{learner}/{figure}"


@lru_cache(4096)
def metric_of(name: str) -> Metric:
    """The metric that a name in the ledger is of. Raises ValueError when there is none."""
    found = next((metric for metric in METRICS if metric.matches(name)), None)
    if found is None:
        raise ValueError(f"no metric {name!r}: give it a unit and a meaning in tenfold/ledger/metrics.py")
    return found
