"""`tenfold learner`, `syncer` and `chaos`: the processes of a run with several learners, started or told by hand."""

from pathlib import Path
from typing import Annotated

import typer

from tenfold.cli.options import HERE, AsJson, CampaignDirectory, Overrides, show, verbs

learner_app = typer.Typer(
    name="learner",
    help="Train as one learner of a run; add a learner to a running `tenfold train`, or let one go.",
    cls=verbs("run"),
    subcommand_metavar="[run|join|leave] ...",
)
Name = Annotated[str, typer.Option(help="Name of the learner, its own in the run: a second one ends the first.")]


@learner_app.command(name="run")
def run_learner(
    campaign: CampaignDirectory = HERE,
    *,
    name: Name,
    syncer: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the syncer listens.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with the syncer's token.")] = None,
    tls_root: Annotated[Path | None, typer.Option(help="The syncer's certificate (PEM).")] = None,
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Train as one learner until the run is finished. The default."""
    from tenfold.campaign import run_learner as run

    show(
        run(campaign, set_ or (), name=name, syncer=syncer, token_file=token_file, tls_root=tls_root, child=child),
        as_json,
    )


@learner_app.command()
def join(campaign: CampaignDirectory = HERE, *, name: Name, as_json: AsJson = False) -> None:
    """Add a learner to a running `tenfold train`."""
    _order("join", campaign, name, as_json)


@learner_app.command()
def leave(campaign: CampaignDirectory = HERE, *, name: Name, as_json: AsJson = False) -> None:
    """Let a learner of a running `tenfold train` go."""
    _order("leave", campaign, name, as_json)


def _order(what: str, campaign: Path, name: str, as_json: bool) -> None:
    from tenfold.learners import check_name, send_command

    show(send_command(campaign, {"what": what, "name": check_name(name)}), as_json)


def syncer(
    campaign: CampaignDirectory = HERE,
    shard: Annotated[int, typer.Option(min=0, help="Which of learners.syncer_shards; 0 coordinates.")] = 0,
    port: Annotated[int | None, typer.Option(help="Control port. Default: learners.port + 2 × shard.")] = None,
    bulk_port: Annotated[int, typer.Option(help="Port of the fragments; 0 takes a free one.")] = 0,
    total: Annotated[
        int | None,
        typer.Option(min=1, help="Samples of a run whose learners are loops of your own; needs no campaign.toml."),
    ] = None,
    child: Annotated[bool, typer.Option("--child", hidden=True)] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Hold the global fragments of a run whose learners are started by hand. `tenfold train` starts it by itself."""
    from tenfold.campaign import run_syncer, run_syncer_of_own_loops

    if total is not None:
        show(run_syncer_of_own_loops(campaign, set_ or (), total, port, bulk_port), as_json)
        return
    show(run_syncer(campaign, set_ or (), shard, port, bulk_port, child=child), as_json)


def chaos(
    kind: Annotated[str, typer.Argument(help="What to do to it, such as kill, stop or slow: `kind` of chaos.faults.")],
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
    from tenfold.learners import send_command

    fault = {"kind": kind, "target": target, "seconds": seconds, "amount": amount}
    show(send_command(campaign, {"what": "fault", "fault": checked_fault(fault)}), as_json)
