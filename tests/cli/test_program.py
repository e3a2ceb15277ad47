"""The command line as a person meets it: verbs, sub-verbs, old spellings, one line for what it cannot take."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tenfold.cli import program
from tenfold.cli.plan import respelled
from tests import warm


def tenfold(*words: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in `directory`."""
    return warm.run(words, cwd=directory)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--model M --cluster C --top 3", "model M --cluster C --top 3"),
        ("--cluster=C --goal=g.toml --to out", "goal g.toml --cluster C --to out"),
        ("--cluster C --model M --simulate F", "model M --cluster C --simulate F"),
        ("--simulate F --cluster C", "fleet F --cluster C"),
        ("--evaluate rows.csv --held-out shape", "check rows.csv --held-out shape"),
    ],
)
def test_old_questions_of_plan_have_a_new_spelling(old: str, new: str) -> None:
    assert respelled(old.split()) == new
    assert respelled(new.split()) is None


@pytest.mark.parametrize("words", ["", "my", "here my", "--again", "my --set model.depth=3", "--help", "--model"])
def test_what_is_spelled_today_is_left_alone(words: str) -> None:
    assert respelled(words.split()) is None


def test_an_old_spelling_is_answered_with_the_new_one(tmp_path: Path) -> None:
    run = tenfold("plan", "--model", "a b", "--cluster", "C", directory=tmp_path)
    assert run.returncode == 2 and run.stdout == ""
    assert "plan model 'a b' --cluster C` now" in run.stderr and len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", ["data", "data build", "data audit", "plan", "plan here", "learner --name a"])
def test_a_group_without_a_verb_does_its_default(words: str, tmp_path: Path) -> None:
    run = tenfold(*words.split(), directory=tmp_path)
    assert run.returncode == 2 and "campaign.toml: no such file" in run.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("nothing", "No such command 'nothing'"),
        ("plan model M", "Missing option '--cluster'"),
        ("plan model M --cluster C --batch-tokens 0", "--batch-tokens"),
        ("plan fleet F --cluster C --top 3", "No such option: --top"),
        ("learner join", "Missing option '--name'"),
        ("data one two", "unexpected extra argument"),
        ("run --dept 3", "No such option: --dept"),
    ],
)
def test_words_it_cannot_take_are_one_line(words: str, line: str, tmp_path: Path) -> None:
    run = tenfold(*words.split(), directory=tmp_path)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("error: ") and line in run.stderr and "--help`" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_help_lists_the_verbs_and_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from tenfold.cli import app; app(['--help'], standalone_mode=False); print('torch' in sys.modules)"
    )
    environment = os.environ | {"COLUMNS": "120"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    verbs = ("init", "run", "data", "ladder", "predict", "derisk", "plan", "train", "learner", "syncer", "chaos")
    assert all(f" {verb} " in run.stdout for verb in (*verbs, "eval", "report", "export", "doctor"))
    assert run.stdout.endswith("False\n")


@pytest.mark.parametrize(
    ("error", "rank", "line"),
    [
        ("TenfoldError('disk full')", "0", "error: disk full"),
        ("TenfoldError('disk full')", "1", "rank 1: error: disk full"),
        ("MemoryError", "1", "rank 1: error: out of memory"),
        ("InputError('no such key')", "1", ""),
        ("NotFinite('step 3')", "1", ""),
        ("Interrupted('stopped as asked')", "0", "stopped as asked"),
        ("Interrupted('stopped as asked')", "1", ""),
    ],
)
def test_what_one_rank_alone_may_meet_is_said_by_it_and_the_rest_once(error: str, rank: str, line: str) -> None:
    code = f"""
from tenfold.cli import program
from tenfold.core import InputError, Interrupted, NotFinite, TenfoldError
def app(standalone_mode): raise {error}
program.app = app
program.main()
"""
    environment = os.environ | {"RANK": rank}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode != 0 and run.stderr.startswith(line) and len(run.stderr.splitlines()) == bool(line)


@pytest.mark.parametrize(
    ("words", "advice"),
    [(["train", "my"], "lower train.micro_batch"), (["report", "my"], "close other programs")],
)
def test_advice_on_memory_fits_what_was_done(words: list[str], advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["tenfold", *words])
    assert advice in program._out_of_memory()


@pytest.mark.parametrize("value", ["s3://me:open-sesame@bucket", "checkpoint.every=s3://me:open-sesame@bucket"])
def test_a_refused_value_is_shown_without_its_password(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "campaign.toml").write_text("")
    monkeypatch.setattr(sys, "argv", ["tenfold", "data", str(tmp_path), "--set", value])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    said = capsys.readouterr().err
    assert "s3://…@bucket" in said and "open-sesame" not in said
