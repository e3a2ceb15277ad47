"""What a person should know about a plan beside its figures: cost, strangers among the runs, risk, several sites."""

from typing import TYPE_CHECKING

from tenfold.planner.calibration.calibrated import Calibrated
from tenfold.planner.hardware.accelerator import DAY, Accelerator
from tenfold.planner.hardware.cluster import Cluster
from tenfold.planner.search.layouts import Choice
from tenfold.planner.search.many_sites import ManySites
from tenfold.planner.search.regret import Regret

if TYPE_CHECKING:
    from tenfold.planner.fleet.run import FleetRun

LEAST_GOODPUT = 0.001
"""Share of the time that trains below which a run is said to get nowhere."""


def cost_notes(choice: Choice, tokens: float, cluster: Cluster, run: "FleetRun | None") -> list[str]:
    """Days, dollars and energy of training on `tokens` (0: not published), with what failures of `run` leave."""
    if not tokens:
        return []
    share = _goodput(run, cluster.devices) if run else 1.0
    if share < LEAST_GOODPUT:
        return ["with these failures training in step never gets anywhere on so many devices"]
    days = tokens / choice.tokens_per_second / share / DAY
    low, high = days * choice.low / choice.seconds, days * choice.high / choice.seconds
    line = f"{days:.3g} days ({low:.3g} to {high:.3g}) for the {tokens / 1e12:.3g} T tokens it was trained on"
    line += f", at a goodput of {share:.1%}" if run else ", failures left out (--simulate counts them)"
    return [line + _spent(days * 24 * cluster.devices, cluster)]


def _goodput(run: "FleetRun", devices: int) -> float:
    from tenfold.planner.fleet.curves import goodput_of  # only who asks for failures waits for what simulates them

    return goodput_of(run)(devices)


def _spent(device_hours: float, cluster: Cluster) -> str:
    """Dollars and energy, as far as price and power are known."""
    text = f"; ${device_hours * cluster.price_per_device_hour:,.0f}" if cluster.price_per_device_hour else ""
    if cluster.accelerator.power_watts:
        watts = cluster.accelerator.power_watts * cluster.power_usage_effectiveness
        text += f"; {device_hours * watts / 1e9:,.3g} GWh at full power of the accelerators and the site's overhead"
    return text


def idle_notes(cluster: Cluster) -> list[str]:
    """A note on devices that stay idle."""
    if not cluster.idle:
        return []
    sites = ", as many at each site," if len(cluster.sites) > 1 else ""
    return [
        f"{cluster.idle:,} of {cluster.devices + cluster.idle:,} devices stay idle: {cluster.devices:,} make whole "
        f"hosts of {cluster.node_devices}{sites} and share out the batch best"
    ]


def stranger_notes(framework: str, chip: Accelerator, calibrated: Calibrated) -> list[str]:
    """Notes on a framework or an accelerator without published runs."""
    known, notes = calibrated.frameworks(), []
    if framework not in known:
        notes.append(f"no run of {framework} is known: it gets the mean of {', '.join(known)}, and their spread")
    if not calibrated.knows_maker(chip):
        notes.append(
            f"no run on {chip.name} or others of its maker is known: told from its figures, in a wider interval"
        )
    elif not calibrated.knows(chip.name):
        notes.append(f"no run on {chip.name} is known: told from its figures, as others of its maker could be")
    return notes


def risk_notes(risk: Regret) -> list[str]:
    """Notes on the risk of taking the layout that is forecast best."""
    notes = [f"the first is {risk.first:.1%} slower than the truly fastest on average, if it is taken untried"]
    if risk.tries > 1:
        notes.append(f"the fastest of the first {risk.tries}, tried, is at most 1% slower (--top shows as many)")
    return notes


def site_notes(sites: ManySites) -> list[str]:
    """What several sites in step wait, and what else there is: one of them alone, or each on its own for a while."""
    notes = [f"the {sites.number} sites train in step here and wait {sites.waiting:.2f} s of each step for each other"]
    if sites.one_alone is not None and sites.one_alone < sites.in_step:
        notes.append(f"one site alone takes the whole batch in {sites.one_alone:.3g} s a step: faster than all in step")
    if sites.apart is None:
        return [*notes, sites.refusal]
    how = sites.apart.exchange
    return [
        *notes,
        f"semi-synchronous, with inner_steps = {how.inner_steps}, fragments = {how.fragments} and {how.bits} bits, "
        f"a step is {sites.apart.seconds:.3g} s ({sites.low:.3g} to {sites.high:.3g}), {sites.apart.exposed:.2f} s of "
        f"it waiting: {sites.apart.speedup:.2f} times as fast, if a token teaches them as much",
    ]
