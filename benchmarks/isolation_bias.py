"""Bias: how far isolation draws training text and a holdout of the same sources apart, and what a model makes of it.

    python benchmarks/isolation_bias.py [--texts dialogues,prompts,en,zh,ja,library] [--documents 400]
                                        [--pages DIR] [--tokens 0] [--json FILE]

Texts, all real: manual pages in English (`en`), the same pages in Chinese (`zh`) and Japanese (`ja`); `dialogues`, each
four turns of paragraphs of one English page in a frame of 24 words; `prompts`, two turns of such paragraphs below one
of three system prompts; the interpreter's library (`library`). --pages is a folder as /usr/share/man, which has zh_CN
and ja where the pages of these languages are installed (Debian: manpages, manpages-dev, manpages-zh, manpages-ja and
manpages-ja-dev); comments in the pages' source, which in Japanese hold the English original, are left out.

For each text a tenth of the documents is held out. Runs of 5 and of 13 words that are common on one side and stand in
no document of the other are counted (`tenfold.data.bias`), three times: as the split leaves them, by the rule that cuts
what anything has of a holdout, and as built now. With --tokens a model of about 200,000 parameters is trained on
the corpus of now and on that of the former rule, and scored on the holdout and on as much training text beside gzip.
"""

import argparse
import gzip
import json
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tenfold.config import load_campaign
from tenfold.data import Manifest, build_corpus, load_holdout, open_workspace
from tenfold.data.bias import BiasMeter
from tenfold.data.corpus import HoldoutDocument, load_tokenizer, training_documents
from tenfold.data.frequency import HeldOutDocument, Windows
from tenfold.data.isolation import HeldOutText, decontaminate
from tenfold.data.words import hash_words
from tenfold.evaluate import compressed_bits_per_byte
from tenfold.evaluate.holdouts import score
from tenfold.train import load_trained, trained_as

LANGUAGES = {"en": ".", "zh": "zh_CN", "ja": "ja"}
TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\nLet me tell you what I know about this: {}<|im_end|>\n"
PROMPTS = (
    "You are a helpful assistant. Answer the question as well as you can, and say so where you do not know.\n",
    "Below is a question of somebody who reads a manual. Write an answer that is short, right and complete.\n",
    "System: you are an expert for programs of this machine; never answer a question about anything else.\n",
)
FRACTION = 0.1
LENGTHS = (5, 13)  # words
NGRAM = 13
LEAST = 64  # bytes
CAMPAIGN = """
name = "{name}"
seed = 1
[data]
sources = [{{ kind = "jsonl", paths = ["texts.jsonl"] }}]
holdouts = [{holdout}]
tokenizer = {{ vocab_size = 1024 }}
[model]
depth = 2
width = 64
head_dim = 16
context = 256
[train]
tokens = {tokens}
batch_tokens = 1024
log_every = 50
threads = 1
compile = "off"
[train.optimizer]
learning_rate = 0.008
muon_learning_rate = 0.04
[evaluate]
stride = 0.75
every = 1000000
during_bytes = 1000
"""
SPLIT = f'{{ name = "iid", kind = "split", fraction = {FRACTION}, max_bytes = 0 }}'


def pages(root: Path, language: str) -> dict[str, str]:
    """Manual pages of one language by name, without comments."""
    found = {}
    for path in sorted((root / LANGUAGES[language]).glob("man[1-8]/*")):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode("utf-8", errors="ignore")
        lines = [line for line in text.splitlines() if not re.match(r"""^['.]\s*\\["#]""", line)]
        if len(lines) > 10:  # else it names another page
            found[path.name.removesuffix(".gz")] = "\n".join(lines)
    return found


def same_pages(root: Path, language: str) -> list[str]:
    """The pages that are there in all three languages."""
    each = {name: pages(root, name) for name in LANGUAGES}
    names = sorted(set.intersection(*(set(found) for found in each.values())))
    return [each[language][name] for name in names]


def paragraphs(text: str) -> list[str]:
    """Paragraphs of a manual page as plain lines."""
    blocks = re.split(r"\n(?:\.[A-Z][^\n]*\n|\n)+", text)
    plain = (re.sub(r"\\f.|\\", "", " ".join(block.split())) for block in blocks)
    return [block for block in plain if 80 <= len(block) <= 800]


def dialogues(root: Path, frame: Callable[[random.Random, list[str]], str]) -> list[str]:
    """One dialogue of each page that has enough paragraphs."""
    rng, found = random.Random(1), []
    for text in pages(root, "en").values():
        own = paragraphs(text)
        if len(own) >= 8:
            start = rng.randrange(len(own) - 7)
            found.append(frame(rng, own[start : start + 8]))
    return found


def framed(_: random.Random, own: list[str]) -> str:
    """Four turns."""
    return "".join(TURN.format(own[2 * turn], own[2 * turn + 1]) for turn in range(4))


def prompted(rng: random.Random, own: list[str]) -> str:
    """Two turns below a system prompt."""
    return rng.choice(PROMPTS) + "".join(f"User: {own[2 * n]}\n\nAssistant: {own[2 * n + 1]}\n\n" for n in range(2))


def library(_: Path) -> list[str]:
    """Files of the interpreter's library."""
    paths = [path for path in Path(sysconfig.get_path("stdlib")).rglob("*.py") if "packages" not in str(path)]
    sized = [path for path in sorted(paths) if 2_000 < path.stat().st_size < 60_000]
    return [path.read_bytes().decode("utf-8", errors="ignore") for path in sized]


TEXTS: dict[str, Callable[[Path], list[str]]] = {
    "dialogues": partial(dialogues, frame=framed),
    "prompts": partial(dialogues, frame=prompted),
    **{name: partial(same_pages, language=name) for name in LANGUAGES},
    "library": library,
}


def write_campaign(folder: Path, texts: list[str], tokens: int, holdout: str = SPLIT) -> Path:
    """A campaign on these texts."""
    folder.mkdir()
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    campaign = CAMPAIGN.format(name=folder.name, tokens=max(tokens, 1024), holdout=holdout)
    (folder / "campaign.toml").write_text(campaign)
    return folder


def training_texts(directory: Path, manifest: Manifest) -> Iterator[str]:
    """Decoded training documents."""
    tokenizer = load_tokenizer(directory, manifest)
    for source in manifest.sources:
        yield from (tokenizer.decode_bytes(row).decode() for row in training_documents(directory, manifest, source))


def by_the_former_rule(training: list[str], held_out: list[str]) -> list[str]:
    """Training text without anything that a holdout has, however many documents have it."""
    windows = Windows([HeldOutDocument(hash_words(text), given=True) for text in held_out], NGRAM)
    nothing = HeldOutText(windows, np.zeros(len(windows), dtype=bool))
    return [piece for text in training for piece in decontaminate(text, hash_words(text), nothing, LEAST).pieces]


def lacking(training: list[str], held_out: list[str]) -> dict[str, float]:
    """Shares of the common runs of each side that the other lacks, and how much training text there is."""
    found: dict[str, float] = {"documents": len(training), "bytes": sum(len(text.encode()) for text in training)}
    for length in LENGTHS:
        meter = BiasMeter(held_out, length)
        for text in training:
            meter.look_at(text)
        found[f"training_lacks_{length}"] = meter.of_holdout().share
        found[f"holdout_lacks_{length}"] = meter.of_training().share
        found[f"common_{length}"] = meter.of_holdout().common
    return found


def bits_per_byte(folder: Path, held_out: list[str]) -> dict[str, float]:
    """Train in a campaign; bits per byte of held-out texts and of as much training text."""
    for verb in ("data", "train"):
        subprocess.run([sys.executable, "-m", "tenfold", verb, str(folder)], check=True, stdout=subprocess.DEVNULL)
    with open_workspace(folder, quiet=True) as workspace:
        device = torch.device("cpu")
        model = load_trained(workspace, trained_as(workspace), device)
        tokenizer = load_tokenizer(workspace.files.data, workspace.manifest)
        texts = list(training_texts(workspace.files.data, workspace.manifest))
        sample = texts[:: max(1, len(texts) // len(held_out))][: len(held_out)]
        sides = {"holdout": held_out, "training": sample}
        return {
            side: score(model, workspace.campaign, workspace.manifest, _documents(tokenizer, own), device).bits_per_byte
            for side, own in sides.items()
        }


def _documents(tokenizer: Any, texts: list[str]) -> list[HoldoutDocument]:
    rows = tokenizer.encode_batch(texts)
    return [HoldoutDocument(text.encode(), np.asarray(row)) for text, row in zip(texts, rows, strict=True)]


def measure(name: str, texts: list[str], tokens: int, work: Path) -> dict[str, Any]:
    """The row of one text."""
    folder = write_campaign(work / name, texts, tokens)
    campaign = load_campaign(folder)
    manifest = build_corpus(campaign.data, campaign.seed, folder / "data", folder, lambda _: None)
    held_out = [document.text.decode() for document in load_holdout(folder / "data", manifest, "iid")]
    now = list(training_texts(folder / "data", manifest))
    given = [text for text in dict.fromkeys(texts) if text not in set(held_out)]
    former = by_the_former_rule(given, held_out)
    result: dict[str, Any] = {
        "held_out": len(held_out),
        "split": lacking(given, held_out),
        "former": lacking(former, held_out),
        "now": lacking(now, held_out),
    }
    if tokens:
        result["gzip"] = compressed_bits_per_byte("".join(held_out).encode())["gzip"]
        result["model_now"] = bits_per_byte(folder, held_out)
        if former:
            cut = write_campaign(work / f"{name}-former", former, tokens, holdout="")
            result["model_former"] = bits_per_byte(cut, held_out)
    return result


def line(name: str, result: dict[str, Any]) -> str:
    """One text for people."""
    cells = [f"{name:10} {result['held_out']:4} held out"]
    for what in ("split", "former", "now"):
        own = result[what]
        lacks = " ".join(f"{own[f'training_lacks_{n}']:6.1%} {own[f'holdout_lacks_{n}']:6.1%}" for n in LENGTHS)
        cells.append(f"{what}: {own['documents']:5,} documents {own['bytes'] / 1000:8,.0f} kB  {lacks}")
    scores = {what: result[what] for what in ("model_now", "model_former") if what in result}
    cells += [f"{what}: holdout {own['holdout']:.3f} training {own['training']:.3f}" for what, own in scores.items()]
    if "gzip" in result:
        cells.append(f"gzip {result['gzip']:.3f}")
    return "\n  ".join(cells)


def main() -> None:
    """Every text asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--texts", default=",".join(TEXTS))
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--pages", type=Path, default=Path("/usr/share/man"))
    parser.add_argument("--tokens", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    print("shares of common runs of 5 words that training lacks, that the holdout lacks; the same of 13 words")
    for name in arguments.texts.split(","):
        texts = TEXTS[name](arguments.pages)
        random.Random(1).shuffle(texts)
        with tempfile.TemporaryDirectory() as work:
            results[name] = measure(name, texts[: arguments.documents], arguments.tokens, Path(work))
        print(line(name, results[name]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
