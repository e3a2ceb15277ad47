"""The stages of a campaign as commands: each verb calls one function of room `campaign` and shows its result."""

from pathlib import Path
from typing import Annotated

import typer

from tenfold.cli.options import HERE, AsJson, CampaignDirectory, Overrides, show, show_lines, verbs
from tenfold.core import InputError, is_fresh

OfBest = Annotated[bool, typer.Option("--best", help="Take the checkpoint that checkpoint.keep_best kept.")]

data_app = typer.Typer(
    name="data",
    help="Build the corpus: documents, holdouts, tokenizer, shards; or check its isolation again; or show samples.",
    cls=verbs("build"),
    subcommand_metavar="[build|audit|show] ...",
)


@data_app.command(name="build")
def build_data(campaign: CampaignDirectory = HERE, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Build the corpus where its inputs changed, and prove its isolation. The default."""
    from tenfold.campaign import run_data

    show(run_data(campaign, set_ or ()), as_json)


@data_app.command(name="audit")
def audit_data(campaign: CampaignDirectory = HERE, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Check the isolation of a corpus again, from its shards alone."""
    from tenfold.campaign import run_audit

    show(run_audit(campaign, set_ or ()), as_json)


@data_app.command(name="show")
def show_data(
    samples: Annotated[str, typer.Argument(metavar="N[-M]", help="Samples of the training order, from 0.")],
    campaign: CampaignDirectory = HERE,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Show the text of training samples, as a run's messages number them."""
    from tenfold.campaign import run_show

    result = run_show(campaign, samples, set_ or ())
    lines = [
        line
        for s in result["samples"]
        for line in (f"sample {s['sample']}: window {s['window']} of {s['sources']}, epoch {s['epoch']}", s["text"], "")
    ]
    show_lines(result, lines, as_json)


def init(
    directory: Annotated[Path, typer.Argument(help="Directory to make.")],
    example: Annotated[str, typer.Option(help="What to start from: quickstart, gpu.")] = "quickstart",
    data: Annotated[str | None, typer.Option(help="Your text: a folder, a file or a glob.")] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="CAMPAIGN", help="Take the settings of this campaign instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a commented campaign.toml."""
    from tenfold.campaign import init_campaign

    show(init_campaign(directory, example, data, like), as_json)


def run(campaign: CampaignDirectory = HERE, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Do all stages in order: data, ladder, predict, train, evaluate, report. Resumes where it stopped."""
    from tenfold.campaign import run_campaign

    show(run_campaign(campaign, set_ or ()), as_json)


def ladder(
    campaign: CampaignDirectory = HERE,
    join: Annotated[bool, typer.Option("--join", help="Work beside others on the same ladder.")] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train the small runs that forecast the target, several at a time. Goes on where it stopped."""
    from tenfold.campaign import run_ladder

    show(run_ladder(campaign, set_ or (), join=join), as_json)


def derisk(
    change: Annotated[Path, typer.Argument(metavar="CHANGE.toml", help="What to change.", show_default=False)],
    campaign: CampaignDirectory = HERE,
    seeds: Annotated[int, typer.Option(help="Seeds to compare, each without and with the change.")] = 2,
    sizes: Annotated[
        str | None, typer.Option(metavar="w32-d2,w48-d2", help="Sizes of the ladder to compare. Default: all.")
    ] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Find out on the ladder what a change of the recipe is worth: adopt, reject or undecided."""
    from tenfold.campaign import run_derisk
    from tenfold.experiments import derisk_lines

    names = None if sizes is None else [name.strip() for name in sizes.split(",")]
    result = run_derisk(change, campaign, set_ or (), seeds=seeds, sizes=names)
    show_lines(result, derisk_lines(result), as_json)


def train(
    campaign: CampaignDirectory = HERE,
    replay: Annotated[bool, typer.Option("--replay", help="Execute a finished run of several learners again.")] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train the target: one learner (or rank under torchrun), or several with a syncer. Resumes where it stopped."""
    fresh = is_fresh()
    from tenfold.campaign import fork_server_early, run_replay, run_train

    if fresh and not replay:
        from tenfold.cli.program import main

        fork_server_early(main, campaign, set_ or ())
    result = run_replay(campaign, set_ or ()) if replay else run_train(campaign, set_ or ())
    if result is not None:
        show(result, as_json)


def predict(
    campaign: CampaignDirectory = HERE,
    table: Annotated[Path | None, typer.Option(metavar="CSV", help="Runs you have: columns N, D, loss, ...")] = None,
    target: Annotated[list[str] | None, typer.Option(metavar="N=…,D=…", help="With --table; repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap, with --table.")] = 0,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Forecast the campaign's target from its ladder and register it; or, with --table, fit laws to runs you have."""
    if table is None:
        if target:
            raise InputError("--target goes with --table; a campaign's target is its own run")
        from tenfold.campaign import run_predict

        show(run_predict(campaign, set_ or ()), as_json)
        return
    from tenfold.scaling import predict_table, prediction_lines

    result = predict_table(table, target or (), seed)
    show_lines(result, prediction_lines(result), as_json)


def evaluate(
    campaign: CampaignDirectory = HERE, best: OfBest = False, set_: Overrides = None, as_json: AsJson = False
) -> None:
    """Score the trained model on every holdout, in bits per byte."""
    from tenfold.campaign import run_evaluate

    show(run_evaluate(campaign, set_ or (), best=best), as_json)


def report(campaign: CampaignDirectory = HERE, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Write report.html (one file, opens offline) and report.json."""
    from tenfold.campaign import run_report

    show(run_report(campaign, set_ or ()), as_json)


def export(
    campaign: CampaignDirectory = HERE,
    to: Annotated[Path | None, typer.Option(help="Directory to write. Default: CAMPAIGN/export.")] = None,
    best: OfBest = False,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write the trained model in Hugging Face format (a stock Qwen3, or Llama without QK-norm)."""
    from tenfold.campaign import run_export

    show(run_export(campaign, to, set_ or (), best=best), as_json)


def doctor(
    directory: Annotated[Path, typer.Argument(help="Where checkpoints would be written.")] = HERE,
    write: Annotated[
        Path | None, typer.Option(metavar="CLUSTER.toml", help="Also write the machine down as a cluster to plan for.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what this machine can do: peak FLOP/s, bandwidth, disk, deterministic kernels."""
    from tenfold.machine import describe_machine

    description = describe_machine(directory)
    if write is not None:
        from tenfold.experiments import describe_local
        from tenfold.planner import write_cluster

        write_cluster(describe_local(description), write)
    show_lines(description.to_dict(), description.lines(), as_json)
