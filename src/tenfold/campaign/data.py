"""The corpus of a campaign: built, proved, kept while something was trained on it; how often a run sees it; samples."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tenfold.core import InputError, ProgressLines, TenfoldError, write_json
from tenfold.data import (
    END_OF_DOCUMENT,
    Inputs,
    Manifest,
    Repetition,
    Stream,
    Tokenizer,
    Workspace,
    asked_for,
    audit,
    audit_passed,
    build_corpus,
    funnel_line,
    load_tokenizer,
    loss_warnings,
)
from tenfold.experiments import target_plan


def prepare_data(workspace: Workspace, *, keep_trained: bool = False) -> Manifest:
    """Build the corpus if its inputs changed, and prove its isolation.

    With `keep_trained`, a corpus of the same [data] and seed that a run was trained on stays even if files it was
    built from changed since, and that is said. Without it such a corpus makes way for the new one: it is kept beside
    it, and what was trained on it goes on using it.
    """
    campaign, files = workspace.campaign, workspace.files
    trained, kinds = _trained_corpus(workspace)
    if trained and keep_trained and trained.asked_for == asked_for(campaign.data, campaign.seed):
        manifest = trained
        _say_what_changed(workspace, manifest, "train" in kinds)
    else:
        keep = files.corpora / trained.digest[:12] if trained and "train" in kinds else None
        progress = ProgressLines(workspace.console)
        try:
            manifest = build_corpus(campaign.data, campaign.seed, files.data, files.directory, progress, keep)
        except MemoryError as error:
            raise TenfoldError(
                f"{files.directory}: out of memory while the corpus was built; name fewer or smaller [data] sources, "
                "or give it more memory. No setting of training changes that"
            ) from error
        if trained and keep and manifest.digest != trained.digest:
            workspace.console.warn(
                f"{files.data} is another corpus now; what was trained here goes on using the one before, kept as "
                f"{keep}. To train on the new one, begin another campaign: {another_campaign(files.directory)}"
            )
    _say_losses(workspace, manifest)
    if not audit_passed(files, manifest):
        audit_data(workspace)
    _say_what_was_not_given(workspace, manifest)
    return manifest


def _say_losses(workspace: Workspace, manifest: Manifest) -> None:
    """What was read, kept and lost; a warning where much was lost."""
    data, console = workspace.campaign.data, workspace.console
    console.say(f"data: {funnel_line(manifest.funnel)}")
    for line in loss_warnings(manifest.funnel, data.read.warn_lost, data.clean.min_bytes):
        console.warn(line)


def _say_what_was_not_given(workspace: Workspace, manifest: Manifest) -> None:
    """A vocabulary that the text was too small for; what a given tokenizer does that training does not."""
    asked = workspace.campaign.data.tokenizer
    if asked.path is not None:
        for what in Tokenizer.load(workspace.files.directory / asked.path).left_out:
            workspace.console.say(f"data.tokenizer.path: {what} is left out, since training never sees it")
    elif manifest.vocab_size < asked.vocab_size:
        workspace.console.warn(
            f"data.tokenizer.vocab_size = {asked.vocab_size:,}: this text gives {manifest.vocab_size:,} tokens, "
            "no pair of them occurring twice any more; the model has so many"
        )


def _trained_corpus(workspace: Workspace) -> tuple[Manifest | None, set[str]]:
    """The corpus that lies here, if the ledger knows a run on it; and the kinds of those runs."""
    files = workspace.files
    if not ((files.data / "manifest.json").exists() and files.ledger.exists()):
        return None, set()
    manifest = Manifest.load(files.data)
    with workspace.ledger(read_only=True) as ledger:
        kinds = {run.kind for run in ledger.runs() if run.description["manifest"] == manifest.digest}
    return (manifest if kinds else None), kinds


def _say_what_changed(workspace: Workspace, manifest: Manifest, has_begun: bool) -> None:
    """A corpus that is kept although its files changed would else be taken for one of today's files."""
    campaign, directory = workspace.campaign, workspace.files.directory
    if not manifest.has_format_of_now:
        workspace.console.say(
            "data: an older tenfold built this corpus, under other rules of isolation; this run goes on with it"
        )
    try:
        now = Inputs.of(campaign.data, directory)
    except InputError as error:
        workspace.console.warn(f"{error}; going on with the corpus as it was built")
        return
    if now.differs(manifest):
        anew = another_campaign(directory) if has_begun else f"`tenfold data {directory}` first"
        workspace.console.warn(
            f"the text has changed since the corpus was built, {Inputs(**manifest.inputs)} then, {now} now. This run "
            f"goes on with the corpus as it is; to train on the text of now: {anew}"
        )


def audit_data(workspace: Workspace) -> Mapping[str, Any]:
    """Check the corpus again from its shards alone. Raises TenfoldError naming the check that failed."""
    files, console = workspace.files, workspace.console
    manifest = Manifest.load(files.data)
    report = audit(files.data)
    for check in report.checks:
        say = console.warn if check.doubtful else console.say
        say(f"audit: {check.name}: {check.checked} {'passed' if check.passed else 'FAILED'}  {check.detail}")
    record = {"manifest": manifest.to_dict(), **asdict(report), "ok": report.ok}
    write_json(files.audit, record)
    if not report.ok:
        failed = next(check for check in report.checks if not check.passed)
        raise TenfoldError(f"{files.data}: audit failed: {failed.name}: {failed.detail}{_of_older_rules(manifest)}")
    return record


def _of_older_rules(manifest: Manifest) -> str:
    """What to do where a corpus was built by rules that were others."""
    if manifest.has_format_of_now:
        return ""
    return "; it was built by an older tenfold, under other rules: move it away and build anew"


def tell_repetition(workspace: Workspace) -> Repetition:
    """Say how often the run will see its text, and what that means, before anything is trained.

    Raises InputError when the corpus does not fill one sample.
    """
    campaign, files, manifest = workspace.campaign, workspace.files, workspace.manifest
    plan = target_plan(campaign, manifest)
    stream = Stream(files.data, manifest, campaign.seed, plan.context)
    repetition = Repetition(
        tokens=plan.steps * plan.tokens_per_step,
        distinct=manifest.tokens,
        epochs=stream.epochs(plan.steps * plan.sequences),
    )
    first, *more = repetition.lines()
    workspace.console.say(f"data: {first}")
    for line in more:
        tell = workspace.console.warn if repetition.is_excessive else workspace.console.say
        tell(f"data: {line}")
    return repetition


def another_campaign(directory: Path) -> str:
    """The commands that train on other text with the settings of this campaign."""
    return f"`tenfold init NEW --like {directory}`, then `tenfold run NEW`"


def show_samples(workspace: Workspace, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Samples of the training order with the place each is read at; END_OF_DOCUMENT stands where a document ends.

    A sample begins and ends wherever its window does, so its first and last character may be broken.
    """
    campaign, files, manifest = workspace.campaign, workspace.files, workspace.manifest
    stream = Stream(files.data, manifest, campaign.seed, campaign.model.context)
    tokenizer = load_tokenizer(files.data, manifest)
    shown = []
    for number in numbers:
        row = stream.sample(number)
        ends = np.flatnonzero(row == tokenizer.end_of_document)
        documents = [tokenizer.decode_bytes(part).decode(errors="replace") for part in np.split(row, ends)]
        shown.append({"sample": number, **asdict(stream.place(number)), "text": END_OF_DOCUMENT.join(documents)})
    return shown
