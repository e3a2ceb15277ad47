"""A learner at the far end of a thin, long, lossy line: does it train as fast as beside the syncer?

    python benchmarks/chaos/far.py [--mbit 20] [--delay-ms 50] [--loss 0.01] [--inner-steps 8] [--json FILE]

Syncer and one learner in one network namespace, another learner in a second one, under TLS. Two runs of the same
campaign, the line between them emulated by the same process: once with nothing that limits it (1 Gbit/s, no delay, no
loss), once as asked for. Tokens per second of each learner while both contribute, from the merge log, what the far one
sent, and the loss at the end. Needs root, iproute2 and openssl; exit status 2 when one is missing, 1 when all together
do less than 97% of the run without limits.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recover import rate_within
from run import bits_per_byte, tenfold, write

sys.path.insert(0, str(Path(__file__).parents[1]))

from emulated_link import End, Line, emulated_link
from tenfold.core.errors import TenfoldError
from tenfold.learners.record.log import RunLog
from transport import certificate, what_is_missing

GOAL = 0.97
PORT = 7300
UNLIMITED = Line(mbit=1000, delay_s=0.0, loss=0.0, queue_bytes=4_000_000)
NAMES = ("near", "far")
STARTING_S = 60.0
STALLED_AFTER = 5.0  # the default: a beat may need several of the line's retransmissions


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--mbit", type=float, default=20.0)
    parser.add_argument("--delay-ms", type=float, default=50.0, help="one way")
    parser.add_argument("--loss", type=float, default=0.01, help="share of the packets")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--inner-steps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if missing := what_is_missing():
        print(f"far: {missing}", file=sys.stderr)
        sys.exit(2)
    asked = Line(arguments.mbit, arguments.delay_ms / 1000, arguments.loss)
    with tempfile.TemporaryDirectory(prefix="far-") as folder:
        corpus = Path(folder) / "corpus"
        write(corpus, 100_000, 2)
        tenfold("data", corpus)
        result = {
            name: measure(Path(folder) / name, corpus, line, arguments)
            for name, line in {"unlimited": UNLIMITED, "line": asked}.items()
        }
    for name in (*NAMES, "all"):
        rates = [result[which]["tokens_per_second"][name] for which in ("line", "unlimited")]
        result[f"ratio_{name}"] = rates[0] / rates[1]
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    sys.exit(result["ratio_all"] < GOAL)


def measure(campaign: Path, corpus: Path, line: Line, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run over a line."""
    write(campaign, arguments.tokens, 2)
    shutil.copytree(corpus / "data", campaign / "data")
    with emulated_link(line) as (near, far):
        tls = certificate(campaign.resolve(), near.address)
        settings = {
            "learners.launch": "none",
            "learners.bind": near.address,
            "learners.port": PORT,
            "learners.tls_certificate": tls[0],
            "learners.tls_key": tls[1],
            "learners.inner_steps": arguments.inner_steps,
            "learners.stalled_after": STALLED_AFTER,
        }
        sets = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        train(campaign, near, far, sets)
        with RunLog.opened(campaign / "learners") as log:
            found = rates(log)
        return found | {"bits_per_byte": bits_per_byte(campaign, *sets)}


def train(campaign: Path, near: End, far: End, sets: Sequence[str]) -> None:
    """Syncer, near and far learner, to the end. Raises TenfoldError when one of them fails."""
    this = [sys.executable, "-m", "tenfold"]
    syncer = subprocess.Popen(near.run([*this, "train", str(campaign), *sets]), stdout=sys.stderr)
    await_file(campaign / "learners" / "syncer.json", syncer)
    learners = [
        subprocess.Popen(
            end.run([*this, "learner", str(campaign), "--syncer", f"{near.address}:{PORT}", "--name", name, *sets]),
            stdout=sys.stderr,
        )
        for name, end in zip(NAMES, (near, far), strict=True)
    ]
    try:
        while any(process.poll() is None for process in (*learners, syncer)):
            if failed := [process for process in (*learners, syncer) if process.poll()]:
                raise TenfoldError(f"{failed[0].args}: exit status {failed[0].returncode}")
            time.sleep(0.5)
    finally:
        for process in (*learners, syncer):
            process.kill()
            process.wait()


def await_file(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Until it is there."""
    deadline = time.monotonic() + STARTING_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise TenfoldError("the syncer did not start")
        time.sleep(0.2)


def rates(log: RunLog) -> dict[str, Any]:
    """Tokens per second of both while both contribute, and what they sent."""
    names = {life.number: life.name for life in log.incarnations()}
    arrivals = {name: [(at, tokens) for at, life, tokens in log.arrivals() if names[life] == name] for name in NAMES}
    begin = max(found[0][0] for found in arrivals.values())
    end = min(found[-1][0] for found in arrivals.values())
    each = {name: rate_within(found, begin, end) or 0.0 for name, found in arrivals.items()}
    sent = {names[life]: {"contributions": one.contributions, "bytes": one.bytes} for life, one in log.sent().items()}
    return {"tokens_per_second": each | {"all": sum(each.values())}, "seconds": end - begin, "sent": sent}


if __name__ == "__main__":
    main()
