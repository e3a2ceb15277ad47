"""Small corpora: what `tenfold init --data` fits to them against the example's settings, judged on much other text.

    python benchmarks/small_corpora.py [--text python|documents] [--bytes 32000 128000] [--decay 0.1 1 4] [--epochs 4 8]

Text is drawn, file by file with seed 0, from the standard library (`python`) or from the descriptions of the installed
packages (`documents`); 60 kB of other files of the same kind are the judge, given as a holdout, so that it is not the
small corpus that says how good it was. Rows: what init fits; where given, every number of epochs with every weight
decay, otherwise as init fits; the example as it is. Columns: epochs, weight decay, bits per byte of the judge at the
end and at its lowest. The settings in campaign/begin.py were chosen on `python`, from 23 runs; report `documents`.
"""

import argparse
import random
import sysconfig
import tempfile
from contextlib import closing
from importlib.metadata import distributions
from pathlib import Path

from tenfold.campaign import init_campaign, run_data, run_train
from tenfold.config import load_campaign
from tenfold.data import Manifest
from tenfold.ledger import Ledger, holdout_metric

JUDGE_BYTES = 60_000
SHORTEST = 2_000  # characters
EVALUATIONS = 10


def texts_of(kind: str) -> list[str]:
    """Distinct texts, shuffled."""
    if kind == "python":
        found = [path.read_text(encoding="utf-8") for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))]
    else:
        found = [each.read_text("METADATA") or "" for each in distributions()]
    texts = sorted({text for text in found if len(text) >= SHORTEST})
    random.Random(0).shuffle(texts)
    return texts


def take(texts: list[str], size: int) -> list[str]:
    """Texts from the end of the list, which loses them, until there are `size` characters; none is a third of it."""
    taken: list[str] = []
    while texts and (left := size - sum(map(len, taken))) > 0:
        taken.append(texts.pop()[: min(left, size // 3)])
    return taken


def prepare(root: Path, kind: str, size: int) -> Path:
    """A campaign as init makes it, its judge added and its corpus built."""
    texts = texts_of(kind)
    judge, own = take(texts, JUDGE_BYTES), take(texts, size)
    for name, group in (("judge", judge), ("own", own)):
        (root / name).mkdir(parents=True)
        for number, text in enumerate(group):
            (root / name / f"{number}.txt").write_text(text, encoding="utf-8")
    init_campaign(root / "fitted", "quickstart", str(root / "own"))
    return root


def trained(root: Path, overrides: list[str]) -> tuple[float, float, float]:
    """(epochs, bits per byte of the judge at the end, at its lowest) of one run."""
    campaign = load_campaign(root / "fitted", overrides)
    holdouts = f'[{{name="iid",kind="split",fraction=0.05}},{{name="judge",kind="files",paths=["{root / "judge"}"]}}]'
    assert campaign.train.tokens is not None
    every = max(1, campaign.train.tokens // campaign.train.batch_tokens // EVALUATIONS)
    options = [*overrides, f"data.holdouts={holdouts}", f"evaluate.every={every}", "evaluate.during_bytes=60000"]
    with tempfile.TemporaryDirectory(dir=root) as folder:
        (Path(folder) / "campaign.toml").write_text((root / "fitted" / "campaign.toml").read_text())
        run_data(Path(folder), options)
        result = run_train(Path(folder), options)
        assert result is not None
        with closing(Ledger(Path(folder) / "ledger.sqlite", read_only=True)) as ledger:
            scores = [value for _, value in ledger.metric(ledger.runs()[0].id, holdout_metric("judge"))]
        return result["tokens"] / Manifest.load(Path(folder) / "data").tokens, scores[-1], min(scores)


def show(name: str, root: Path, overrides: list[str]) -> None:
    """Train one row and print it."""
    epochs, final, lowest = trained(root, overrides)
    decay = load_campaign(root / "fitted", overrides).train.optimizer.weight_decay
    print(f"{name:<24} {epochs:8.1f} epochs  decay {decay:<4g}  end {final:.3f}  lowest {lowest:.3f}", flush=True)


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", choices=("python", "documents"), default="documents")
    parser.add_argument("--bytes", type=int, nargs="+", default=[32_000, 128_000])
    parser.add_argument("--decay", type=float, nargs="*", default=[])
    parser.add_argument("--epochs", type=float, nargs="*", default=[])
    arguments = parser.parse_args()
    for size in arguments.bytes:
        with tempfile.TemporaryDirectory() as folder:
            root = prepare(Path(folder), arguments.text, size)
            print(f"{arguments.text}, {size:,} bytes")
            fitted = load_campaign(root / "fitted")
            show("as init fits", root, [])
            for epochs in arguments.epochs:
                steps = round(epochs * size * 0.95 / 2.8 / fitted.train.batch_tokens)
                tokens = f"train.tokens={max(1, steps) * fitted.train.batch_tokens}"
                for decay in arguments.decay:
                    show("", root, [tokens, f"train.optimizer.weight_decay={decay}"])
            example = ["train.tokens=2048000", "train.batch_tokens=2048", "train.optimizer.weight_decay=0.1"]
            show("the example's settings", root, [*example, "data.tokenizer.vocab_size=1024"])


if __name__ == "__main__":
    main()
