"""The command line: one thin command per verb, no logic.

Heavy imports (torch) happen inside the commands, so that `tenfold --help` answers at once.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from tenfold.core.errors import InputError, TenfoldError

app = typer.Typer(
    name="tenfold",
    help="Carry a language-model pretraining run from a forecast to a finished, evaluated, explained model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

CampaignDirectory = Annotated[Path, typer.Argument(metavar="[CAMPAIGN]", help="Directory that holds campaign.toml.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout; logs go to stderr.")]
HERE = Path()
OUT_OF_MEMORY = "error: out of memory; lower train.micro_batch, or model.width, model.depth or model.context"
NO_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory")  # torch says it in each of these


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Directory to make.")],
    example: Annotated[str, typer.Option(help="What to start from: quickstart, gpu.")] = "quickstart",
    data: Annotated[str | None, typer.Option(help="Your text: a folder, a file or a glob.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a commented campaign.toml."""
    from tenfold.campaign import init_campaign

    path = init_campaign(directory, example, data)
    _show({"wrote": str(path), "next": f"tenfold run {directory}"}, as_json)


@app.command()
def run(campaign: CampaignDirectory = HERE, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Do all stages in order: data, ladder, predict, train, evaluate, report. Resumes where it stopped."""
    from tenfold.campaign import run_campaign

    _show(run_campaign(campaign, set_ or ()), as_json)


@app.command()
def data(
    what: Annotated[Path, typer.Argument(metavar="[audit] [CAMPAIGN]", help="`audit` re-checks a corpus.")] = HERE,
    campaign: Annotated[Path, typer.Argument(hidden=True)] = HERE,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Build the corpus: documents, holdouts, tokenizer, shards. `tenfold data audit` re-checks its isolation."""
    from tenfold.campaign import run_audit, run_data

    if str(what) != "audit" and campaign != HERE:
        raise InputError(f"data {what} {campaign}: give one campaign directory, or `audit` and one")
    if str(what) == "audit":
        _show(run_audit(campaign, set_ or ()), as_json)
    else:
        _show(run_data(what, set_ or ()), as_json)


@app.command()
def ladder(
    campaign: CampaignDirectory = HERE,
    join: Annotated[bool, typer.Option("--join", help="Work beside others on the same ladder.")] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train the small runs that forecast the target, several at a time. Goes on where it stopped."""
    from tenfold.campaign import run_ladder

    _show(run_ladder(campaign, set_ or (), join=join), as_json)


@app.command()
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
    from tenfold.campaign import derisk_lines, run_derisk

    names = None if sizes is None else [name.strip() for name in sizes.split(",")]
    result = run_derisk(change, campaign, set_ or (), seeds=seeds, sizes=names)
    print(json.dumps(result, sort_keys=True) if as_json else "\n".join(derisk_lines(result)))


@app.command(hidden=True)
def worker(plan: Path) -> None:
    """Body of a worker process of the ladder."""
    from tenfold.campaign import run_worker

    run_worker(plan)


@app.command()
def train(
    campaign: CampaignDirectory = HERE,
    replay: Annotated[bool, typer.Option("--replay", help="Execute a finished run of several learners again.")] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train the target: one learner (or rank under torchrun), or several with a syncer. Resumes where it stopped."""
    from tenfold.campaign import run_replay, run_train

    result = run_replay(campaign, set_ or ()) if replay else run_train(campaign, set_ or ())
    if result is not None:
        _show(result, as_json)


@app.command()
def syncer(
    campaign: CampaignDirectory = HERE,
    shard: Annotated[int, typer.Option(min=0, help="Which of cluster.syncer_shards; 0 coordinates.")] = 0,
    port: Annotated[int | None, typer.Option(help="Control port. Default: cluster.port + 2 × shard.")] = None,
    bulk_port: Annotated[int, typer.Option(help="Port of the fragments; 0 takes a free one.")] = 0,
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Hold the global fragments of a run whose learners are started by hand. `tenfold train` starts it by itself."""
    from tenfold.campaign import run_syncer

    _show(run_syncer(campaign, set_ or (), shard, port, bulk_port, child=child), as_json)


@app.command(hidden=True)
def zygote() -> None:
    """Body of the process that learners are forked off."""
    from tenfold.campaign import run_zygote

    run_zygote(main)


@app.command()
def learner(
    what: Annotated[
        str, typer.Argument(metavar="[join|leave] [CAMPAIGN]", help="Order of a running `tenfold train`.")
    ] = ".",
    campaign: Annotated[Path, typer.Argument(hidden=True)] = HERE,
    *,
    name: Annotated[str, typer.Option(help="Name of the learner, its own in the run: a second one ends the first.")],
    syncer: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the syncer listens.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the syncer's token.")] = None,
    tls_root: Annotated[Path | None, typer.Option(help="The syncer's certificate (PEM).")] = None,
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train as one learner of a run; `learner join|leave` adds one to a running `tenfold train`, or lets one go."""
    if what in ("join", "leave"):
        from tenfold.learners.supervise import check_name, give_order

        _show(give_order(campaign, {"what": what, "name": check_name(name)}), as_json)
        return
    from tenfold.campaign import run_learner

    result = run_learner(
        Path(what), set_ or (), name=name, syncer=syncer, token_file=token_file, tls_root=tls_root, child=child
    )
    _show(result, as_json)


@app.command()
def chaos(
    kind: Annotated[
        str, typer.Argument(help="kill, stop, hang, slow, partition, delay, loss, bandwidth, corrupt, nan, disk-full.")
    ],
    campaign: CampaignDirectory = HERE,
    target: Annotated[str, typer.Option(help="learner-0, learner-1, …, syncer, or syncer-1, ….")] = "learner-0",
    seconds: Annotated[float, typer.Option(help="How long it lasts, of the kinds that last.")] = 5.0,
    amount: Annotated[
        float | None, typer.Option(help="How strong: see `amount` of chaos.faults in docs/configuration.md.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Inject a fault into a running `tenfold train` of several learners."""
    from tenfold.config import checked_fault
    from tenfold.learners.supervise import give_order

    fault = {"kind": kind, "target": target, "seconds": seconds, "amount": amount}
    _show(give_order(campaign, {"what": "fault", "fault": checked_fault(fault)}), as_json)


@app.command()
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

        _show(run_predict(campaign, set_ or ()), as_json)
        return
    from tenfold.scaling.predict import predict_table, prediction_lines

    result = predict_table(table, target or (), seed)
    print(json.dumps(result, sort_keys=True) if as_json else "\n".join(prediction_lines(result)))


@app.command()
def plan(
    campaign: CampaignDirectory = HERE,
    *,
    model: Annotated[str | None, typer.Option(help="A known model: the best layouts of it on --cluster.")] = None,
    goal: Annotated[Path | None, typer.Option(metavar="GOAL.toml", help="Choose model and layout for a goal.")] = None,
    simulate: Annotated[
        str | None, typer.Option(metavar="FLEET.toml", help="Failures while training; or a profile: llama3-h100, ….")
    ] = None,
    evaluate: Annotated[Path | None, typer.Option(metavar="ROWS.csv", help="Forecast runs that were measured.")] = None,
    held_out: Annotated[
        str | None, typer.Option(help="With --evaluate: fit to the other rows; shape, source or scale.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="CLUSTER.toml, an example (llama3-16k, …) or ACCELERATOR:DEVICES.")
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="With --model: tokens of one step. Default: 4,194,304.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=1, help="With --model: of a sequence. Default: the model's.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="With --model: bf16 (default), fp16, fp8, fp4, fp32.")] = None,
    framework: Annotated[
        str | None, typer.Option(help="With --model: whose measured speed counts. Default: megatron-core.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="With --model: how many layouts to show. Default: 5.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="With --model: where time and memory go.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Of a campaign: measure this machine anew.")] = False,
    to: Annotated[Path | None, typer.Option(help="Directory for the page, pictures and settings.")] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Plan a campaign's run on this machine; or a model, a goal, failures on a cluster; or check the planner."""
    from tenfold.campaign.plan.ask import PlanAsked, ask

    shown = ask(
        PlanAsked(
            campaign=campaign,
            model=model,
            goal=goal,
            simulate=simulate,
            evaluate=evaluate,
            held_out=held_out,
            cluster=cluster,
            batch_tokens=batch_tokens,
            context=context,
            precision=precision,
            framework=framework,
            top=top,
            explain=explain,
            again=again,
            to=to,
            overrides=tuple(set_ or ()),
        )
    )
    print(json.dumps(shown.record, sort_keys=True) if as_json else "\n".join(shown.lines))


@app.command(name="eval")
def evaluate(campaign: CampaignDirectory = HERE, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Score the trained model on every holdout, in bits per byte."""
    from tenfold.campaign import run_evaluate

    _show(run_evaluate(campaign, set_ or ()), as_json)


@app.command()
def report(campaign: CampaignDirectory = HERE, set_: Overrides = None, as_json: AsJson = False) -> None:
    """Write report.html (one file, opens offline) and report.json."""
    from tenfold.campaign import run_report

    _show(run_report(campaign, set_ or ()), as_json)


@app.command()
def export(
    campaign: CampaignDirectory = HERE,
    to: Annotated[Path | None, typer.Option(help="Directory to write. Default: CAMPAIGN/export.")] = None,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Write the trained model in Hugging Face format (a stock Qwen3, or Llama without QK-norm)."""
    from tenfold.campaign import run_export

    _show(run_export(campaign, to, set_ or ()), as_json)


@app.command()
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
        from tenfold.experiments.local.this_machine import describe_local
        from tenfold.planner.hardware.write import write_cluster

        write_cluster(describe_local(description), write)
    if as_json:
        print(json.dumps(description.to_dict(), sort_keys=True))
    else:
        print("\n".join(description.lines()))


def _show(result: dict[str, Any], as_json: bool) -> None:
    """One JSON object for programs; for people the few figures that matter."""
    if as_json:
        print(json.dumps(result, sort_keys=True))
        return
    for key, value in result.items():
        if not isinstance(value, dict | list):
            print(f"{key}: {value}")


class _Stopped(BaseException):
    """SIGINT or SIGTERM outside training. No KeyboardInterrupt: the command-line library would swallow it."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # once is enough: what ends now must end in order
    raise _Stopped


def main() -> None:
    """Entry point: turns every error tenfold raises on purpose into one line and an exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        app()
    except TenfoldError as error:
        _fail(f"error: {error}", error.exit_code)
    except _Stopped:
        _fail("interrupted; nothing that was finished is lost, run the same command again to go on", 130)
    except MemoryError:
        _fail(OUT_OF_MEMORY, 1)
    except OSError as error:
        _fail(f"error: {error.filename or 'input/output'}: {error.strerror or error}", 1)
    except RuntimeError as error:
        if not any(words in str(error) for words in NO_MEMORY_WORDS):
            raise
        _fail(OUT_OF_MEMORY, 1)


def _fail(line: str, status: int) -> NoReturn:
    if os.environ.get("RANK", "0") == "0":  # one line is enough for all ranks
        print(line, file=sys.stderr)
    sys.exit(status)
