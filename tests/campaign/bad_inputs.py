"""What users get wrong and machines do to them, each with the one line it must give.

    python -m tests.campaign.bad_inputs      prints the table of docs/errors.md

A case changes a finished campaign in the working directory `my` and runs one command.
"""

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
import zstandard
from safetensors.torch import load_file, save_file

from tenfold.cli import main
from tenfold.core.digests import digest_of_file
from tenfold.train.checkpoint.format import CheckpointManifest, StoredFile
from tests.campaign.small import TOML, copy_of, finished_campaign

MY = Path("my")


@dataclass(frozen=True)
class Case:
    """What is wrong, how to make it so, the command, the exit status and the line expected (a regular expression)."""

    what: str
    prepare: Callable[[], object]
    command: str
    status: int
    line: str
    environment: tuple[tuple[str, str], ...] = ()


def nothing() -> None:
    """The command alone is wrong."""


def source(kind: str, path: str, **more: str) -> None:
    """Make `path` the only source."""
    fields = [f'kind = "{kind}"', f'paths = ["{path}"]', *(f'{key} = "{value}"' for key, value in more.items())]
    text = re.sub(r"sources = .*", f"sources = [{{ {', '.join(fields)} }}]", TOML)
    (MY / "campaign.toml").write_text(text)


def written(name: str, content: bytes, kind: str, **more: str) -> Callable[[], None]:
    """A source of one file with this content."""

    def prepare() -> None:
        (MY / name).write_bytes(content)
        source(kind, name, **more)

    return prepare


def configured(old: str, new: str) -> Callable[[], object]:
    """campaign.toml with a part of it written otherwise."""
    assert old in TOML
    return lambda: (MY / "campaign.toml").write_text(TOML.replace(old, new))


SOURCES = 'sources = [{ kind = "files", paths = ["texts"] }]'
HOLDOUT = '{ name = "iid", kind = "split", fraction = 0.1, max_bytes = 20000 }'


def users_own_data() -> None:
    """A folder named as ours, full of the user's text."""
    shutil.rmtree(MY / "data")
    shutil.copytree(MY / "texts", MY / "data")


def no_data() -> None:
    shutil.rmtree(MY / "data")


def untrained() -> None:
    shutil.rmtree(MY / "checkpoints")
    for name in ("train.json", "evaluation.json", "report.json"):
        (MY / name).unlink()


def retrained() -> None:
    """Checkpoints stay, the result of training does not."""
    (MY / "train.json").unlink()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def flipped_shard() -> None:
    retrained()
    flip(next((MY / "data" / "shards").iterdir()))


def flipped_holdout() -> None:
    flip(MY / "data" / "holdouts" / "iid.bin")


def flipped_checkpoints(count: int, *, finished: bool = False) -> Callable[[], None]:
    def prepare() -> None:
        if not finished:
            retrained()
        for directory in sorted((MY / "checkpoints").iterdir())[-count:]:
            flip(next(directory.glob("*.safetensors")))

    return prepare


def nan_in_checkpoint() -> None:
    """Whole by every hash, and wrong."""
    retrained()
    directory = sorted((MY / "checkpoints").iterdir())[-1]
    path = directory / "rank-00000.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors["model/final_norm.weight"][0] = torch.nan
    save_file(tensors, path)
    manifest = CheckpointManifest.read(directory / "manifest.json")
    manifest.files[path.name] = StoredFile(path.stat().st_size, digest_of_file(path))
    (directory / "manifest.json").write_bytes(manifest.to_json())


def edited_manifest() -> None:
    retrained()
    path = MY / "data" / "manifest.json"
    value = json.loads(path.read_text())
    value["sources"][0]["licence"] = "another"
    path.write_text(json.dumps(value))


def broken_manifest() -> None:
    retrained()
    (MY / "data" / "manifest.json").write_text('{"made_from": ')


def truncated_zst() -> None:
    lines = "".join(json.dumps({"text": f"line {n} " * 40}) + "\n" for n in range(4000)).encode()
    written("part.jsonl.zst", zstandard.compress(lines)[:60], "jsonl")()


def broken_ledger() -> None:
    untrained()
    (MY / "ledger.sqlite").write_bytes(b"not a database, though long enough to have a header" * 100)
    for extra in MY.glob("ledger.sqlite-*"):
        extra.unlink()


def locked() -> None:
    holder = "import fcntl, sys; h = open('my/.lock', 'a+'); fcntl.flock(h, fcntl.LOCK_EX); h.truncate(0); "
    holder += "h.write('4711'); h.flush(); print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    HOLDERS.append(process)


HOLDERS: list[subprocess.Popen[bytes]] = []


def full_disk(under: str) -> Callable[[], None]:
    """A file system of 128 KiB where `my/<under>` is."""

    def prepare() -> None:
        path = MY / under
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(path)], check=True)
        MOUNTS.append(path.absolute())

    return prepare


def full_disk_for_data() -> None:
    full_disk("disk")()
    shutil.copy(MY / "campaign.toml", MY / "disk" / "campaign.toml")
    text = (MY / "campaign.toml").read_text().replace('"texts"', f'"{(MY / "texts").absolute()}"')
    (MY / "disk" / "campaign.toml").write_text(text)


def full_disk_for_checkpoints() -> None:
    untrained()
    full_disk("checkpoints")()


MOUNTS: list[Path] = []
NO_TOKENIZER = "--set data.tokenizer.path=tok.json"
IDENTITY_TOKENIZER = b'{"version":"1.0","model":{"type":"WordLevel","vocab":{"[UNK]":0},"unk_token":"[UNK]"}}'


def change(setting: str) -> Callable[[], None]:
    """A change.toml with this line below [set]."""

    def prepare() -> None:
        Path("change.toml").write_text(f"[set]\n{setting}\n")

    return prepare


CASES = [
    Case("no campaign", nothing, "run nowhere", 2, r"nowhere/campaign.toml: no such file; make one with `tenfold init"),
    Case(
        "not TOML", lambda: (MY / "campaign.toml").write_text("[data"), "run my", 2, r"my/campaign.toml: not valid TOML"
    ),
    Case(
        "unknown key", nothing, "run my --set train.tokenz=3", 2, r"unknown key 'train.tokenz'; did you mean 'tokens'\?"
    ),
    Case("negative size", nothing, "run my --set model.depth=-1", 2, r"model.depth = -1: input should be greater than"),
    Case("text for a number", nothing, "run my --set seed=abc", 2, r"seed = 'abc': input should be a valid integer"),
    Case("no value", nothing, "run my --set seed", 2, r"--set 'seed': write it as section.key=value"),
    Case(
        "unknown example",
        nothing,
        "init new --example foo",
        2,
        r"--example 'foo': no such example; there are gpu, quick",
    ),
    Case("campaign exists", nothing, "init my", 2, r"my/campaign.toml: exists already; choose another directory"),
    Case("data do not exist", nothing, "init new --data gone", 2, r"--data gone: no such file or folder"),
    Case("read-only directory", nothing, "init /proc/new", 2, r"/proc/new: cannot write here"),
    Case(
        "missing source",
        lambda: source("files", "gone"),
        "run my",
        2,
        r"gone: no such file, or nothing to read in this folder; data.sources.paths",
    ),
    Case(
        "empty source",
        lambda: ((MY / "empty").mkdir(), source("files", "empty")),
        "run my",
        2,
        r"empty: no such file, or nothing to read in this folder",
    ),
    Case("only tiny files", written("a.txt", b"hi", "files"), "run my", 2, r"no usable text \(1 too-short"),
    Case("invalid UTF-8", written("a.txt", b"\xff" * 99, "files"), "run my", 2, r"no usable text \(1 invalid-utf8"),
    Case(
        "wrong JSON key",
        written("a.jsonl", b'{"body": "x", "id": 1}\n', "jsonl"),
        "run my",
        2,
        r"a.jsonl: no record of this source has the key 'text'; keys there are: body, id",
    ),
    Case("not JSON", written("a.jsonl", b"hello\n", "jsonl"), "run my", 2, r"no usable text \(1 invalid-json"),
    Case("truncated .zst", truncated_zst, "run my", 2, r"no usable text \(1 truncated-stream"),
    Case(
        "truncated .gz",
        written("a.jsonl.gz", gzip.compress(json.dumps({"text": os.urandom(999).hex()}).encode())[:500], "jsonl"),
        "run my",
        2,
        r"no usable text \(1 truncated-stream",
    ),
    Case(
        "not parquet",
        written("a.parquet", b"x" * 99, "parquet"),
        "run my",
        2,
        r"a.parquet: cannot be read \(not a parquet file: ",
    ),
    Case(
        "one document",
        written("a.txt", b"some words of text " * 99, "files"),
        "run my",
        2,
        r"holdout 'iid': 1 distinct documents are too few to hold out 10.0%",
    ),
    Case(
        "the user's own data folder", users_own_data, "data my", 2, r"my/data: holds '0000.txt', which is no part of a"
    ),
    Case(
        "data where the corpus goes",
        lambda: shutil.copytree(MY / "texts", "new/data"),
        "init new --data new/data",
        2,
        r"--data new/data: the corpus will be written there; rename your folder",
    ),
    Case(
        "missing evaluation set",
        configured(HOLDOUT, '{ name = "h", kind = "files", paths = ["gone"] }'),
        "data my",
        2,
        r"gone: no such file, or nothing to read in this folder; data.holdouts.paths takes",
    ),
    Case(
        "a key of another kind",
        configured(HOLDOUT, '{ name = "h", kind = "files", paths = ["texts"], fraction = 0.1 }'),
        "data my",
        2,
        r'data.holdouts\[0\]: a holdout of kind "files" has no `fraction`; it takes encoding, max_bytes, name, paths',
    ),
    Case(
        "some sources weighted",
        configured(SOURCES, SOURCES.replace(" }]", ', weight = 1.0 }, { kind = "python-stdlib" }]')),
        "data my",
        2,
        r"sources: give all of them a weight or none; without one: python-stdlib",
    ),
    Case(
        "a source named like a path",
        configured(SOURCES, SOURCES.replace("paths", 'name = "../../evil", paths')),
        "data my",
        2,
        r"data.sources\[0\].name = '../../evil': string should match pattern",
    ),
    Case(
        "vocabulary too small",
        nothing,
        "run my --set data.tokenizer.vocab_size=100",
        2,
        r"greater than or equal to 257",
    ),
    Case("no tokenizer", nothing, f"run my {NO_TOKENIZER}", 2, r"my/tok.json: no such file; data.tokenizer.path takes"),
    Case(
        "not a tokenizer",
        lambda: (MY / "tok.json").write_text("{}"),
        f"run my {NO_TOKENIZER}",
        2,
        r"not a tokenizer.json",
    ),
    Case(
        "tokenizer that loses bytes",
        lambda: (MY / "tok.json").write_bytes(IDENTITY_TOKENIZER),
        f"run my {NO_TOKENIZER}",
        2,
        r"my/tok.json: not a byte-level tokenizer, so bytes could not be counted exactly",
    ),
    Case(
        "context longer than text",
        untrained,
        "train my --set model.context=262144 --set train.batch_tokens=262144 --set train.tokens=262144",
        2,
        r"tokens do not fill one sample of 262144 \+ 1; add text",
    ),
    Case(
        "training before data",
        no_data,
        "train my",
        2,
        r"my/data/manifest.json: no corpus here; build it with `tenfold data my`",
    ),
    Case("flipped byte in a shard", flipped_shard, "train my", 2, r"shards/files-00000.bin: damaged: its sha256 is"),
    Case("flipped byte in a holdout", flipped_holdout, "eval my", 2, r"holdouts/iid.bin: damaged: its sha256 is"),
    Case("broken manifest", broken_manifest, "train my", 2, r"manifest.json: not a whole manifest"),
    Case(
        "edited manifest",
        edited_manifest,
        "train my",
        2,
        r"my/data: no passed audit for this corpus; run `tenfold data my`",
    ),
    Case(
        "flipped byte in the newest checkpoint",
        flipped_checkpoints(1),
        "train my",
        0,
        r"warning: my/checkpoints/step-00000040: rank-00000.safetensors does not match its hash; skipped, and kept as "
        r"my/checkpoints/damaged-step-00000040",
    ),
    Case(
        "every checkpoint damaged",
        flipped_checkpoints(2, finished=True),
        "export my --to out",
        2,
        r"my/checkpoints: the checkpoint of the last step, 40, is missing or damaged; `tenfold train` makes it again",
    ),
    Case(
        "NaN in a checkpoint",
        nan_in_checkpoint,
        "train my",
        2,
        r"model/final_norm.weight holds NaN or infinity; delete it",
    ),
    Case(
        "other configuration",
        retrained,
        "train my --set train.tokens=20480",
        2,
        r"trained with another configuration \(train.tokens: 10240 → 20480\); set it back",
    ),
    Case(
        "evaluation before training", untrained, "eval my", 2, r"my: no finished training here; run `tenfold train my`"
    ),
    Case("report before anything", untrained, "report my", 2, r"my: no finished training here; run `tenfold train my`"),
    Case(
        "export into a full directory",
        nothing,
        "export my --to my/texts",
        2,
        r"my/texts: not empty; export into a new directory",
    ),
    Case(
        "a GPU where there is none", untrained, "train my --set train.device=cuda", 2, r"torch sees no CUDA device here"
    ),
    Case(
        "batch of broken sequences",
        nothing,
        "run my --set train.batch_tokens=100",
        2,
        r"must be a multiple of model.context 32",
    ),
    Case("less than a step", untrained, "train my --set train.tokens=10", 2, r"train.tokens = 10: less than one step"),
    Case(
        "stride beyond the context",
        nothing,
        "run my --set evaluate.stride=64",
        2,
        r"evaluate.stride 64 must not exceed",
    ),
    Case(
        "no C++ compiler",
        untrained,
        "train my --set train.compile=on",
        2,
        r'train.compile = "on": no working C\+\+ compiler here',
        (("PATH", "/nonexistent"), ("CXX", "/nonexistent/g++")),
    ),
    Case(
        "no Slurm",
        untrained,
        "train my --set learners.count=2 --set learners.launch=slurm",
        2,
        r'learners.launch = "slurm": no sbatch on this machine; start it where jobs are submitted, or set',
        (("PATH", "/nonexistent"),),
    ),
    Case(
        "a short option of sbatch",
        untrained,
        'train my --set learners.slurm_options=["-p"]',
        2,
        r"learners.slurm_options\[0\] = '-p': an option of sbatch is one word with its value, \"--partition=gpu\"",
    ),
    Case(
        "unknown kind of URL",
        untrained,
        "train my --set checkpoint.url=foo://bar",
        2,
        r"checkpoint.url = 'foo://bar': ",
    ),
    Case(
        "broken ledger",
        broken_ledger,
        "train my",
        1,
        r"my/ledger.sqlite: cannot open the ledger \(file is not a database\); put a copy of it back",
    ),
    Case("two commands at once", locked, "run my", 1, r"my: process 4711 is working here; wait for it or stop it"),
    Case(
        "loss not finite",
        untrained,
        "train my --set train.optimizer.learning_rate=1e30 --set train.optimizer.kind=adamw",
        1,
        r"gradient norm nan: not finite. The batch is samples \d+–\d+; last good checkpoint: ",
    ),
    Case(
        "disk full in the data build",
        full_disk_for_data,
        "data my/disk",
        1,
        r"/(.data.work: the build's own files|data: the corpus).* (could not|cannot) be written "
        r"\(No space left on device\); make room (there or set data.work to a folder|or choose another)",
    ),
    Case(
        "disk full at a checkpoint",
        full_disk_for_checkpoints,
        "train my",
        1,
        r"the checkpoint could not be written \(No space left on device\); the last good one is none yet",
    ),
    Case("no ladder asked for", nothing, "ladder my", 2, r"ladder.sizes = 0: no ladder is asked for; give 3 or more"),
    Case("two sizes", nothing, "ladder my --set ladder.sizes=2", 2, r"sizes = 2: give 3 or more, or 0 for no ladder"),
    Case(
        "a target too small for a ladder",
        nothing,
        "ladder my --set ladder.sizes=3",
        2,
        r"ladder: \d+ sizes and \d+ rungs fit below this target .*, 3 and 6 are needed; raise ladder.smallest",
    ),
    Case(
        "a forecast after the fact",
        nothing,
        "predict my --set ladder.sizes=3",
        1,
        r"training of this campaign has begun \(run [0-9a-f]{12}\), so it can no longer be forecast",
    ),
    Case("a target without a table", nothing, "predict my --target N=1e9,D=1e10", 2, r"--target goes with --table"),
    Case(
        "no such change", nothing, "derisk none.toml my", 2, r"none.toml: no such file; write one with a table \[set\]"
    ),
    Case(
        "a change of an unknown key",
        change('"model.depht" = 3'),
        "derisk change.toml my --set ladder.sizes=3",
        2,
        r"change.toml: \[set\]: unknown key 'model.depht'; did you mean 'depth'\?",
    ),
    Case(
        "a change of what the ladder sets",
        change('"model.width" = 64'),
        "derisk change.toml my --set ladder.sizes=3",
        2,
        r"change.toml: \[set\] model.width: the ladder sets it for every rung",
    ),
    Case(
        "a change that changes nothing",
        change('"model.qk_norm" = true'),
        "derisk change.toml my --set ladder.sizes=3",
        2,
        r"change.toml: \[set\] model.qk_norm: the campaign has these values already",
    ),
]


def needs_mount(case: Case) -> bool:
    """Whether only root can make it so."""
    return case.what.startswith("disk full")


@contextlib.contextmanager
def tidy() -> Iterator[None]:
    """Unmount and stop what a case left."""
    try:
        yield
    finally:
        while MOUNTS:
            subprocess.run(["umount", str(MOUNTS.pop())], check=True)
        while HOLDERS:
            process = HOLDERS.pop()
            process.kill()
            process.communicate()


def run_case(case: Case) -> tuple[int, list[str]]:
    """Exit status and the lines on stderr of the case's command, in the working directory."""
    err = io.StringIO()
    from tenfold.machine import has_cpp_compiler

    has_cpp_compiler.cache_clear()
    with tidy():
        case.prepare()
        patches = (
            mock.patch.dict(os.environ, dict(case.environment)),
            mock.patch.object(sys, "argv", ["tenfold", *case.command.split()]),
        )
        with patches[0], patches[1], contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            try:
                main()
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
    return status, err.getvalue().splitlines()


def print_table() -> None:
    """Every case with the line it gives."""
    print("| what is wrong | command | exit | message |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as work:
        finished = finished_campaign(Path(work) / "finished")
        for case in CASES:
            directory = Path(work) / "case"
            directory.mkdir()
            os.chdir(directory)
            copy_of(finished, MY)
            status, lines = run_case(case)
            line = next(line for line in lines if re.search(case.line, line))
            shown = line.replace(str(directory.resolve()) + "/", "").replace("|", "\\|")
            print(f"| {case.what} | `tenfold {case.command}` | {status} | `{shown}` |")
            os.chdir(work)
            shutil.rmtree(directory)


if __name__ == "__main__":
    print_table()
