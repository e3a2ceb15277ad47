"""`tenfold watch`, `incidents` and `reliability`: the page, what looked wrong, and how often runs fail."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tenfold.cli.options import HERE, AsJson, CampaignDirectory, print_json, show_lines


def watch(
    campaigns: Annotated[list[Path] | None, typer.Argument(metavar="[CAMPAIGN...]", help="Default: here.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve on; beyond this machine a token is asked for.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 takes a free one.")] = 7117,
    token_file: Annotated[Path | None, typer.Option(help="File with the token that the page asks for.")] = None,
    tui: Annotated[bool, typer.Option("--tui", help="Show it in this terminal instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch a run live, or look at a finished one: loss in its forecast band, signals, learners, incidents."""
    from tenfold.monitor import metrics_routes, watch_page, watch_terminal

    if tui:
        watch_terminal(campaigns or [HERE])
        return

    def say(record: dict[str, str]) -> None:
        if as_json:
            print_json(record)
        else:
            print(f"watching at {record['url']} until Ctrl-C")
        sys.stdout.flush()  # the reader of a pipe waits for this line

    watch_page(campaigns or [HERE], say, host=host, port=port, token_file=token_file, routes=metrics_routes)


def incidents(
    campaign: CampaignDirectory = HERE,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not closed.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="A date or time, or how long ago: 30m, 2h, 3d.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what looked wrong. Exit status 0: nothing critical of it is open; 1: something is; 2: bad input."""
    from tenfold.monitor import run_incidents

    found = run_incidents(campaign, only_open=only_open, since=since)
    show_lines(found.to_dict(), found.lines(), as_json)
    raise typer.Exit(1 if found.is_critical else 0)


def reliability(
    campaigns: Annotated[list[Path] | None, typer.Argument(metavar="[CAMPAIGN...]", help="Default: here.")] = None,
    goal: Annotated[
        float | None, typer.Option(metavar="HOURS", help="Hours between failures that are good enough: when?")
    ] = None,
    simulate: Annotated[
        str | None, typer.Option(metavar="FLEET", help="Compare with a planned fleet: FLEET.toml, or a profile.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="With --simulate: the machine, as of `tenfold plan`.")] = None,
    injected: Annotated[bool, typer.Option("--injected", help="Count faults injected on purpose too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Failures by cause, the time between them and its trend, against a plan, and learners that fail too often."""
    from tenfold.campaign import run_reliability
    from tenfold.monitor import reliability_lines

    found = run_reliability(campaigns or [HERE], goal=goal, simulate=simulate, cluster=cluster, injected=injected)
    show_lines(found.to_dict(), reliability_lines(found), as_json)
