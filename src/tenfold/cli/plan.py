"""`tenfold plan`: a model's layouts, a goal, a fleet's failures, the planner's own check, a campaign's run here."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tenfold.cli.options import HERE, AsJson, CampaignDirectory, Overrides, show_lines, verbs

OLD_QUESTIONS = {"--model": "model", "--goal": "goal", "--evaluate": "check", "--simulate": "fleet"}
"""Options of `tenfold plan` up to 0.1 and the sub-verb of each, first match first."""


def respelled(words: Sequence[str]) -> str | None:
    """Today's spelling of `tenfold plan WORDS` where the words are those of 0.1; None where they are today's."""
    parts = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    if not parts or parts[0] in {"here", *OLD_QUESTIONS.values()}:
        return None
    for option, verb in OLD_QUESTIONS.items():
        if option in parts[:-1]:
            at = parts.index(option)
            return shlex.join([verb, parts[at + 1], *parts[:at], *parts[at + 2 :]])
    return None


app = typer.Typer(
    name="plan",
    help="Plan a campaign's run on this machine; a model, a goal or failures on a cluster; or check the planner.",
    cls=verbs("here", respelled),
    subcommand_metavar="[here|model|goal|fleet|check] ...",
)

ClusterOption = Annotated[
    str, typer.Option("--cluster", help="CLUSTER.toml, an example (llama3-16k, …) or ACCELERATOR:DEVICES.")
]
FleetOption = Annotated[
    str | None, typer.Option("--simulate", metavar="FLEET", help="Count failures too: FLEET.toml or a profile.")
]
Destination = Annotated[Path | None, typer.Option("--to", help="Directory for the page, pictures and settings.")]


@app.command()
def here(
    campaign: CampaignDirectory = HERE,
    again: Annotated[bool, typer.Option("--again", help="Measure this machine anew.")] = False,
    set_: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Forecast step time and memory of a campaign's run on this machine, and register both. The default."""
    from tenfold.experiments import plan_locally

    found = plan_locally(campaign, tuple(set_ or ()), again=again)
    show_lines(found.to_dict(), found.lines(), as_json)


@app.command()
def model(
    name: Annotated[
        str, typer.Argument(metavar="MODEL", help="A known model (Llama-3-405B, …) or MODEL.toml with [model].")
    ],
    cluster: ClusterOption,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one step.")] = 4_194_304,
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of a sequence. Default: the model's.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="bf16, fp16, fp8, fp4 or fp32. Default: bf16, or what the accelerator has.")
    ] = None,
    framework: Annotated[str, typer.Option(help="Whose measured speed counts.")] = "megatron-core",
    top: Annotated[int, typer.Option(min=1, help="How many layouts to show.")] = 5,
    explain: Annotated[bool, typer.Option("--explain", help="Show where time and memory go.")] = False,
    simulate: FleetOption = None,
    to: Destination = None,
    as_json: AsJson = False,
) -> None:
    """Find the fastest layouts of a model on a cluster, what binds them and what relaxing it is worth."""
    from tenfold.campaign import plan_model

    shown = plan_model(
        name,
        cluster,
        batch_tokens=batch_tokens,
        context=context,
        precision=precision,
        framework=framework,
        top=top,
        explain=explain,
        simulate=simulate,
        to=to,
    )
    show_lines(shown.record, shown.lines, as_json)


@app.command()
def goal(
    file: Annotated[
        Path, typer.Argument(metavar="GOAL.toml", help="What to reach, and within which limits; or an example's name.")
    ],
    cluster: ClusterOption,
    simulate: FleetOption = None,
    to: Destination = None,
    as_json: AsJson = False,
) -> None:
    """Choose model, layout and batch together for a goal; `--to` also writes settings for other trainers."""
    from tenfold.campaign import plan_goal

    shown = plan_goal(file, cluster, simulate=simulate, to=to)
    show_lines(shown.record, shown.lines, as_json)


@app.command()
def fleet(
    fleet: Annotated[str, typer.Argument(metavar="FLEET", help="FLEET.toml, or a profile: llama3-h100, ….")],
    cluster: ClusterOption,
    as_json: AsJson = False,
) -> None:
    """Simulate failures of a run on a cluster: goodput, checkpoint interval, spares, and where lock-step ends."""
    from tenfold.campaign import plan_fleet

    shown = plan_fleet(fleet, cluster)
    show_lines(shown.record, shown.lines, as_json)


@app.command()
def check(
    rows: Annotated[Path, typer.Argument(metavar="ROWS.csv", help="Runs that were measured.")],
    held_out: Annotated[
        str | None,
        typer.Option(
            help="Fit to the other rows: of another shape, source, framework, site, accelerator, release or scale."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast measured runs and compare."""
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # on a busy machine its threads wait for each other, not for work
    from tenfold.campaign import plan_check

    shown = plan_check(rows, held_out=held_out)
    show_lines(shown.record, shown.lines, as_json)
