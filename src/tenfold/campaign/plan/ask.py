"""`tenfold plan goal|fleet|check`: a question to the planner, answered as a record and as lines to read."""

from dataclasses import asdict
from pathlib import Path

from tenfold.campaign.plan.answer import PlanAnswer, within_width
from tenfold.campaign.plan.build import page_of, write_settings
from tenfold.core import InputError, ProgressLines, RunConsole, run_console
from tenfold.pages import write_page
from tenfold.planner import (
    HELD_OUT,
    Cluster,
    FleetRun,
    assumed_line,
    best_interval,
    best_spares,
    curves_around,
    evaluate_rows,
    find_cluster,
    fleet_of,
    goodput_of,
    idle_notes,
    interval_line,
    load_goal,
    plan_lines,
    search_goal,
    shipped_calibration,
    simulate_fleet,
    spares_line,
)

REPLICA_HOSTS = 16
"""Hosts of one data-parallel replica, where nothing says how large a model is."""


def plan_goal(file: Path, cluster: str, *, simulate: str | None = None, to: Path | None = None) -> PlanAnswer:
    """Model, layout and batch for a goal; with `to`, a page, pictures and settings of three programs.

    With `simulate`, the share of time that trains is what failures leave at each size, in place of the goal's. Raises
    InputError for a bad goal, cluster or fleet, or a goal that cannot be met.
    """
    machine, goal = find_cluster(cluster), load_goal(file)
    goodput = goodput_of(fleet_of(simulate, machine)) if simulate else None
    with run_console() as console:
        told = ProgressLines(console, "plan").counter("searching for layouts", "searches")
        designed = search_goal(goal, machine, shipped_calibration(), goodput=goodput, told=told)
    lines = plan_lines(designed)
    if to is not None:
        lines += [*write_page(page_of(designed), to), *write_settings(designed.job, to)]
    return PlanAnswer(designed.to_dict(), within_width(lines))


def plan_fleet(fleet: str, cluster: str) -> PlanAnswer:
    """Failures of a run on a cluster, the best checkpoint interval and spares, and the size where lock-step ends.

    `fleet` is a TOML file with a [fleet] table or the name of a profile of failure rates. Raises InputError where it
    is neither.
    """
    machine = find_cluster(cluster)
    run = fleet_of(fleet, machine)
    with run_console() as console:
        return _fleet_answer(run, machine, console)


def _fleet_answer(run: FleetRun, cluster: Cluster, console: RunConsole) -> PlanAnswer:
    console.say("plan: simulating the run")
    result = simulate_fleet(run)
    console.say("plan: trying checkpoint intervals")
    interval = best_interval(run)
    console.say("plan: trying numbers of spares")
    spares = best_spares(run)
    console.say("plan: simulating other sizes")
    curves = curves_around(run, cluster, REPLICA_HOSTS * cluster.node_devices)
    record = {
        "run": result.to_dict(),
        "best_interval": asdict(interval),
        "best_spares": asdict(spares),
        "sizes": curves.to_dict(),
    }
    lines = [*result.lines(), "", assumed_line(run), interval_line(interval), spares_line(spares), "", *curves.lines()]
    return PlanAnswer(record, within_width([*idle_notes(cluster), *lines]))


def plan_check(rows: Path, *, held_out: str | None = None) -> PlanAnswer:
    """Forecasts of measured runs beside what was measured.

    With `held_out` (a word of HELD_OUT) by constants fitted to the table's other rows. Raises InputError for a
    table that cannot be read or another word.
    """
    out = next((each for each in HELD_OUT if each == held_out), None)
    if held_out is not None and out is None:
        raise InputError(f"--held-out {held_out}: allowed are {', '.join(HELD_OUT)}")
    with run_console() as console:
        told = ProgressLines(console, "plan").counter("fitting without the held-out runs", "fits")
        evaluation = evaluate_rows(rows, out, told)
    return PlanAnswer(evaluation.to_dict(), within_width(evaluation.lines()))
