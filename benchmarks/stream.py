"""Random access to the training order: samples per second, beside reading the same windows of the memory map directly.

python benchmarks/stream.py --corpus CAMPAIGN/data [--context 256]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from tenfold.data import Manifest, Stream

BATCH, BATCHES = 64, 400


def samples_per_second(take: object) -> float:
    """Best of three."""
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        take()  # type: ignore[operator]
        best = max(best, BATCH * BATCHES / (time.perf_counter() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--context", type=int, default=256)
    arguments = parser.parse_args()
    manifest = Manifest.load(arguments.corpus)
    stream = Stream(arguments.corpus, manifest, 1, arguments.context)
    numbers = np.random.default_rng(1).integers(0, 10**9, (BATCHES, BATCH))
    raw = np.memmap(arguments.corpus / manifest.sources[0].shards[0].file, dtype=manifest.dtype, mode="r")
    starts = numbers % (raw.size - arguments.context - 1)

    def ours() -> None:
        for row in numbers:
            stream.take(row)

    def directly() -> None:
        for row in starts:
            np.stack([raw[start : start + arguments.context + 1] for start in row])

    rates = {"stream": samples_per_second(ours), "memory_map": samples_per_second(directly)}
    print(json.dumps({"samples_per_second": rates, "ratio": rates["stream"] / rates["memory_map"]}))


if __name__ == "__main__":
    main()
