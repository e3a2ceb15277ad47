"""The corpus build on text of this machine: MB/s by stage and in all, peak memory, beside datatrove on the same text.

    python benchmarks/build.py [--megabytes 100 1000] [--workers 1 2] [--vocab 4096] [--no-peer] [--json FILE]
    python benchmarks/build.py --megabytes 50 --workers 2 --kills 20 --no-peer

The text is Python, prose and headers of the packages installed here; where there is not enough of it, it is repeated
with every tenth word changed, so that repeated documents are neither copies nor near-duplicates. It lies in files of
JSON lines of 16 MB. A split holdout of 1% (at most 1 MB) is taken. Each build runs in a process of its own; its memory
is that of this process and all its children together, shared pages counted once (PSS), looked at ten times a second.

`--kills N` kills the build N times (SIGKILL), at moments drawn over a whole build, and lets it go on each time; the
manifest has to be that of a build that was not killed.

datatrove (the extra `bench`, with spacy and orjson, which its steps ask for) does what it has of this: MinHash
signatures of 14 bands, buckets, clusters, filter, and tokens by the tokenizer of our corpus. It reads the same files.
"""

import argparse
import importlib.util
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tenfold.config import Data
from tenfold.core import Progress
from tenfold.data import Manifest, build_corpus, load_record

FILE_BYTES = 16_000_000
SUFFIXES = {".py", ".pyi", ".txt", ".md", ".rst", ".h", ".hpp", ".c", ".js", ".ts", ".html", ".css", ".json", ".toml"}
LONGEST = 1_000_000
CHANGED = 0.1
SECONDS_BETWEEN_LOOKS = 0.1
PEER_NEEDS = ("datatrove", "spacy", "orjson")


def machine_texts() -> Iterator[str]:
    """Text of installed packages and of the system, file by file."""
    roots = [sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "/usr/share", "/usr/include", "/usr/lib"]
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for path in (Path(folder, name) for name in sorted(names) if Path(name).suffix in SUFFIXES):
                try:
                    if 200 < path.stat().st_size < LONGEST:
                        yield path.read_text(encoding="utf-8")
                except (OSError, UnicodeDecodeError):
                    continue


def with_words_changed(text: str, rng: random.Random) -> str:
    """Every tenth word, about, replaced by one that occurs nowhere."""
    return re.sub(r"\w+", lambda m: f"w{rng.randrange(10**8)}" if rng.random() < CHANGED else m.group(), text)


def write_text(folder: Path, size: int) -> dict[str, float]:
    """JSON lines of about `size` bytes of text; returns documents, bytes, and the share that is repeated."""
    folder.mkdir(parents=True)
    own, rng = list(machine_texts()), random.Random(1)
    rng.shuffle(own)
    documents = written = fresh = 0
    while written < size:
        with (folder / f"{written // FILE_BYTES:05d}.jsonl").open("w", encoding="utf-8") as handle:
            start = written
            while written < size and written - start < FILE_BYTES:
                text, again = own[documents % len(own)], documents >= len(own)
                text = with_words_changed(text, rng) if again else text
                handle.write(json.dumps({"text": text, "id": str(documents)}) + "\n")
                documents, written = documents + 1, written + len(text.encode())
                fresh += 0 if again else len(text.encode())
    return {"documents": documents, "bytes": written, "repeated": 1 - fresh / written}


def data_of(folder: Path, workers: int, vocab: int) -> Data:
    """The configuration."""
    return Data.model_validate(
        {
            "sources": [{"kind": "jsonl", "paths": [str(folder)]}],
            "holdouts": [{"name": "iid", "kind": "split", "fraction": 0.01, "max_bytes": 1_000_000}],
            "tokenizer": {"vocab_size": vocab},
            "workers": workers,
        }
    )


def build_here(folder: Path, place: Path, workers: int, vocab: int) -> None:
    """Build, and print the seconds of each stage."""
    stages: list[tuple[str, float]] = []

    def note(progress: Progress) -> None:
        if not stages or stages[-1][0] != progress.stage:
            stages.append((progress.stage, time.perf_counter()))

    began = time.perf_counter()
    manifest = build_corpus(data_of(folder, workers, vocab), 1, place / "data", place, note)
    ended = time.perf_counter()
    times = [*(at for _, at in stages), ended]
    seconds = {name: 0.0 for name, _ in stages}
    for number, (name, _) in enumerate(stages):
        seconds[name] += times[number + 1] - times[number]
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    result = {"stages": seconds, "seconds": ended - began, "cpu": cpu, "digest": manifest.digest}
    print(json.dumps(result))


def own_command(folder: Path, place: Path, workers: int, vocab: int) -> list[str]:
    """This program, as the process that builds."""
    return [sys.executable, __file__, "--build", str(folder), str(place), str(workers), str(vocab)]


def watched(command: list[str]) -> tuple[str, float, float]:
    """(what it printed, seconds, peak of its memory and its children's in bytes). Raises when it fails."""
    began, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, memory_of(root))
            time.sleep(SECONDS_BETWEEN_LOOKS)
        printed = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    return printed, time.perf_counter() - began, peak


def memory_of(root: psutil.Process) -> int:
    """PSS of a process and its children, bytes."""
    total = 0
    try:
        for process in (root, *root.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:
        pass  # one has just ended
    return total


def measure(folder: Path, size: float, workers: int, vocab: int, work: Path) -> dict[str, Any]:
    """Build once; MB/s of the text that goes in."""
    place = work / f"built-{workers}"
    place.mkdir()
    printed, _, peak = watched(own_command(folder, place, workers, vocab))
    found = json.loads(printed.splitlines()[-1])
    stages = {name: round(size / 1e6 / max(seconds, 1e-6), 2) for name, seconds in found["stages"].items()}
    return {
        "workers": workers,
        "seconds": round(found["seconds"], 1),
        "MB/s": round(size / 1e6 / found["seconds"], 2),
        "MB_per_cpu_second": round(size / 1e6 / found["cpu"], 2),
        "peak_MB": round(peak / 1e6),
        "MB/s_by_stage": stages,
        "seconds_by_stage": {name: round(seconds, 1) for name, seconds in found["stages"].items()},
        "cpu_seconds_by_stage": {each.stage: round(each.cpu_seconds, 1) for each in load_record(place / "data")},
        "digest": found["digest"],
    }


def kill_often(folder: Path, workers: int, vocab: int, kills: int, work: Path) -> dict[str, Any]:
    """Kill a build again and again, each time after another share of it, and compare it with one left alone."""
    alone, killed = work / "alone", work / "killed"
    alone.mkdir()
    killed.mkdir()
    subprocess.run(own_command(folder, alone, workers, vocab), check=True, stdout=subprocess.DEVNULL)
    whole, rng, done = Manifest.load(alone / "data"), random.Random(3), 0
    tasks = 8 * len(list(folder.iterdir())) * FILE_BYTES // (8 << 20)
    while not (killed / "data" / "manifest.json").exists():
        with subprocess.Popen(own_command(folder, killed, workers, vocab), stdout=subprocess.DEVNULL) as process:
            wanted = tasks_done(killed) + rng.randint(0, max(1, 2 * tasks // (kills + 1)))
            while process.poll() is None and (done >= kills or tasks_done(killed) < wanted):
                time.sleep(0.01)
            time.sleep(rng.random() * 0.2)
            if process.poll() is None and done < kills:
                process.send_signal(signal.SIGKILL)
                done += 1
    after = Manifest.load(killed / "data")
    return {"kills": done, "workers": workers, "same_manifest": after == whole, "files": after.verify(killed / "data")}


def tasks_done(place: Path) -> int:
    """Tasks that are done so far."""
    return sum(len(names) for path, _, names in os.walk(place / ".data.work") if path.endswith(".done"))


def peer(folder: Path, size: float, workers: int, tokenizer: Path, work: Path) -> dict[str, Any]:
    """datatrove on the same files, or what is missing."""
    missing = [name for name in PEER_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        return {"peer": f"datatrove not measured: {', '.join(missing)} not installed (pip install 'tenfold[bench]')"}
    out = work / f"datatrove-{workers}"
    command = [sys.executable, __file__, "--peer", str(folder), str(out), str(workers), str(tokenizer)]
    printed, _, peak = watched(command)
    seconds = json.loads(printed.splitlines()[-1])
    total = sum(seconds.values())
    return {
        "peer": f"datatrove, {workers} workers",
        "seconds": round(total, 1),
        "MB/s": round(size / 1e6 / total, 2),
        "peak_MB": round(peak / 1e6),
        "seconds_by_stage": {name: round(each, 1) for name, each in seconds.items()},
    }


def peer_here(folder: Path, out: Path, workers: int, tokenizer: Path) -> None:
    """Run datatrove's steps, and print the seconds of each."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.utils.hashing import HashConfig

    config = MinhashConfig(hash_config=HashConfig(precision=64, hash_fc="sha1"), num_buckets=14, hashes_per_bucket=9)
    signatures, buckets, removed = (str(out / name) for name in ("signatures", "buckets", "removed"))
    tokens = DocumentTokenizer(
        str(out / "tokens"), tokenizer_name_or_path=str(tokenizer), eos_token="<|endoftext|>", shuffle_documents=False
    )
    reader = JsonlReader(str(folder))
    steps = {
        "signatures": ([reader, MinhashDedupSignature(signatures, config)], 4 * workers),
        "buckets": ([MinhashDedupBuckets(signatures, buckets, config=config)], 14),
        "clusters": ([MinhashDedupCluster(buckets, removed, config=config)], 1),
        "filter and tokens": ([reader, MinhashDedupFilter(removed), tokens], 4 * workers),
    }
    seconds = {}
    for name, (pipeline, tasks) in steps.items():
        began = time.perf_counter()
        logs = str(out / "logs" / name)
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=logs).run()
        seconds[name] = time.perf_counter() - began
    print(json.dumps(seconds))


def main() -> None:
    if sys.argv[1:2] == ["--build"]:
        build_here(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
        return
    if sys.argv[1:2] == ["--peer"]:
        peer_here(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--vocab", type=int, default=4096)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory() as name:
            results.append(run_once(arguments, megabytes, Path(name)))
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2))
    sys.exit(any(not each.get("same", True) for each in results))


def run_once(arguments: argparse.Namespace, megabytes: int, work: Path) -> dict[str, Any]:
    """All that was asked for, of one size; printed as it comes."""
    text = write_text(work / "text", megabytes * 1_000_000)
    print(json.dumps(text), flush=True)
    result: dict[str, Any] = {"text": text, "builds": []}
    if arguments.kills:
        result |= kill_often(work / "text", arguments.workers[-1], arguments.vocab, arguments.kills, work)
        result["same"] = result["same_manifest"]
        print(json.dumps({key: result[key] for key in ("kills", "workers", "same_manifest", "files")}), flush=True)
        return result
    for workers in arguments.workers:
        result["builds"].append(measure(work / "text", text["bytes"], workers, arguments.vocab, work))
        print(json.dumps(result["builds"][-1]), flush=True)
    result["same"] = len({each["digest"] for each in result["builds"]}) == 1
    if not arguments.no_peer:
        tokenizer = work / f"built-{arguments.workers[-1]}" / "data" / "tokenizer.json"
        result["peer"] = peer(work / "text", text["bytes"], arguments.workers[-1], tokenizer, work)
        print(json.dumps(result["peer"]), flush=True)
    for place in work.glob("built-*"):
        shutil.rmtree(place)
    return result


if __name__ == "__main__":
    main()
