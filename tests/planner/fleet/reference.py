"""A fleet run simulated as plain code: one failure after another, every component with its own clock. For small fleets.

Slow, and simple enough to be read as the definition of what `simulate_fleet` computes; a test holds the two together.
"""

import random as random_module
from dataclasses import dataclass, field

from tenfold.planner.fleet.result import KINDS, Kind
from tenfold.planner.fleet.run import COMPONENTS, INFANT_CAUSE, Cause, FleetRun
from tenfold.planner.hardware.accelerator import DAY


@dataclass
class Copy:
    """A state that a unit can go back to."""

    progress: float = 0.0
    """Useful training seconds in it."""
    goods: float = 0.0
    """The same, weighted with the share of replicas that took part."""
    safe_at: float = 0.0
    """Training time of the unit at which it is safe."""


@dataclass
class Unit:
    """A part of the job that stops and starts on its own."""

    run: FleetRun
    now: float = 0.0
    phases: dict[Kind, float] = field(default_factory=dict)
    """Seconds left of detection and restart."""
    ready: float = 0.0
    """When the spares it needs are at hand."""
    trained: float = 0.0
    until_checkpoint: float = 0.0
    until_near: float = float("inf")
    stall: float = 0.0
    state: Copy = field(default_factory=Copy)
    near: Copy = field(default_factory=Copy)
    durable: list[Copy] = field(default_factory=lambda: [Copy()])
    corrupt_from: float | None = None
    """Progress at which the state became wrong."""
    away: dict[int, float] = field(default_factory=dict)
    """Replica to the time it comes back."""
    lost: dict[Kind, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    intervals: list[tuple[float, float]] = field(default_factory=list)
    """When it trained."""

    def __post_init__(self) -> None:
        self._reset_clocks()

    def _reset_clocks(self) -> None:
        done = self.state.progress - self.durable[-1].progress
        self.until_checkpoint = self.run.checkpoint.interval_s - done
        self.until_near = self.run.checkpoint.peer_interval_s or float("inf")
        if self.run.mode == "semi-synchronous":
            self.until_near = self.run.merge_s
        self.stall = 0.0

    @property
    def stopped(self) -> bool:
        return bool(self.phases)

    def advance(self, until: float) -> None:
        """Live until then."""
        while self.now < until - 1e-9:
            returning = [time for time in self.away.values() if self.now < time < until]
            stop = min([until, *returning])
            self._live(stop)
            back = [replica for replica, time in self.away.items() if time <= self.now]
            for replica in back:
                del self.away[replica]
            if back:
                self.phases["restart"] = self.phases.get("restart", 0.0) + self.run.recovery.rejoin_s

    def _live(self, until: float) -> None:
        self._spend("detection", until)
        if self.phases and self.now < min(until, self.ready):
            waited = min(until, self.ready) - self.now
            self.lost["waiting_for_spares"] += waited
            self.now += waited
        self._spend("restart", until)
        if self.now < until:
            self.phases.clear()
            self.intervals.append((self.now, until))
            self._train(until - self.now)
            self.now = until

    def _spend(self, phase: Kind, until: float) -> None:
        left = self.phases.get(phase, 0.0)
        spent = min(left, until - self.now)
        self.lost[phase] += spent
        self.now += spent
        if phase in self.phases:
            self.phases[phase] = left - spent

    def _train(self, seconds: float) -> None:
        """Train, with stalls where checkpoints and near copies are due."""
        present = 1.0
        if self.run.elastic:
            present -= len(self.away) * self.run.replica_devices / (self.run.unit_nodes * self.run.node_devices)
        while seconds > 1e-9:
            if self.stall > 0:
                step = min(self.stall, seconds)
                self.lost["checkpoint_stall"] += step
                self.stall -= step
            else:
                step = min(seconds, self.until_checkpoint, self.until_near)
                self.state = Copy(self.state.progress + step, self.state.goods + step * present)
                self.until_checkpoint -= step
                self.until_near -= step
            self.trained += step
            seconds -= step
            self._copies_due()

    def _copies_due(self) -> None:
        checkpoint = self.run.checkpoint
        if self.until_near <= 1e-9:
            semi = self.run.mode == "semi-synchronous"
            self.near = self.state
            self.until_near = self.run.merge_s if semi else checkpoint.peer_interval_s or float("inf")
            self.stall += 0.0 if semi else checkpoint.peer_stall_s
        if self.until_checkpoint <= 1e-9:
            safe_at = self.trained + max(checkpoint.write_s, checkpoint.stall_s)
            self.durable.append(Copy(self.state.progress, self.state.goods, safe_at))
            self.until_checkpoint = checkpoint.interval_s
            self.stall += checkpoint.stall_s

    def stop(self, ready: float, seen: float, restart: float) -> None:
        """Begin a recovery, or begin it again."""
        self.phases = {"detection": seen, "restart": restart}
        self.ready = max(self.ready, ready)

    def go_back(self, copy: Copy, why: Kind) -> None:
        """Take up an earlier state."""
        self.lost[why] += self.state.progress - copy.progress
        self.state = Copy(copy.progress, copy.goods)
        if self.corrupt_from is not None and copy.progress <= self.corrupt_from:
            self.corrupt_from = None
        self.durable = [kept for kept in self.durable if kept.progress <= copy.progress]
        self.near = self.state
        self._reset_clocks()

    def newest_durable(self, before: float = float("inf")) -> Copy:
        """The last safe durable checkpoint whose progress is at most `before`."""
        safe = [copy for copy in self.durable if copy.safe_at <= self.trained and copy.progress <= before]
        return safe[-1]


def simulate_reference(run: FleetRun, seed: int) -> dict[str, float]:
    """Shares of all device time: `goodput` and every kind of loss.

    Where hardware fails only while training, give spares enough: they are planned before it is known what trains.
    """
    random = random_module.Random(seed)
    failures = _failures(run, random)
    units = [Unit(run) for _ in range(run.units)]
    ready = _spares_ready(run, [(time, run.group_nodes(c) if c.replaced else 0) for time, c, _ in failures], random)
    found: list[tuple[float, int, float]] = []
    for (time, cause, node), spare_at in zip(failures, ready, strict=True):
        found = _discover(run, units, found, time)
        if cause.silent:
            found = _corrupt(run, units, found, time, node, random)
        else:
            _strike(run, units, time, cause, node, spare_at)
    _discover(run, units, found, run.horizon_s)
    for unit in units:
        unit.advance(run.horizon_s)
    return _totals(run, units, random)


def _spares_ready(run: FleetRun, losses: list[tuple[float, int]], random: random_module.Random) -> list[float]:
    """When the hosts lost at each time are replaced: first come, first served, from spares and what was repaired."""
    repair = run.recovery.repair_s
    delays = (random.expovariate(1 / repair) if repair else 0.0 for _ in iter(int, 1))
    back = sorted(time + next(delays) for time, hosts in losses for _ in range(hosts))
    ready, demand = [], 0
    for time, hosts in losses:
        demand += hosts
        short = demand - run.recovery.spares
        ready.append(max(time, back[short - 1]) if hosts and short > 0 else time)
    return ready


def _failures(run: FleetRun, random: random_module.Random) -> list[tuple[float, Cause, int]]:
    """Time, cause and first host of everything that fails, each component with its own exponential clock."""
    failures = []
    for cause in run.causes:
        count, hosts = run.components(cause), run.group_nodes(cause)
        for component in range(count):
            time = random.expovariate(cause.per_day / DAY) if cause.per_day else float("inf")
            while time < run.horizon_s:
                node = component // run.node_devices if cause.component == "device" else component * hosts
                failures.append((time, cause, node))
                time += random.expovariate(cause.per_day / DAY)
    early = Cause(INFANT_CAUSE, "device", 0.0)
    for device in range(run.devices):
        time = random.expovariate(1 / run.infant.mean_s) - run.infant.age_s
        if random.random() < run.infant.share and 0 < time < run.horizon_s:
            failures.append((time, early, device // run.node_devices))
    return sorted(failures, key=lambda failure: failure[0])


def _strike(run: FleetRun, units: list[Unit], time: float, cause: Cause, node: int, ready: float) -> None:
    hosts = run.group_nodes(cause)
    struck = range(node // run.unit_nodes, min(run.nodes - 1, node + hosts - 1) // run.unit_nodes + 1)
    for unit in (units[index] for index in struck):
        unit.advance(time)
        if unit.stopped and not run.fails_while_stopped:
            continue
        if run.elastic and hosts < run.unit_nodes:
            _leave(run, unit, time, node % run.unit_nodes, hosts, ready)
            continue
        near = run.mode == "semi-synchronous" and hosts < run.nodes
        if run.mode != "semi-synchronous" and run.checkpoint.peer_interval_s is not None:
            near = COMPONENTS.index(cause.component) <= COMPONENTS.index(run.checkpoint.peer_survives)
        unit.go_back(unit.near if near else unit.newest_durable(), "rework")
        unit.stop(ready, run.recovery.detect_s, run.restart_s)


def _leave(run: FleetRun, unit: Unit, time: float, node: int, hosts: int, ready: float) -> None:
    """Replicas of an elastic unit go; the others reconfigure."""
    first = node * run.node_devices // run.replica_devices
    last = ((node + hosts) * run.node_devices - 1) // run.replica_devices
    if any(replica not in unit.away for replica in range(first, last + 1)):
        unit.phases["restart"] = run.recovery.reconfigure_s
    for replica in range(first, last + 1):
        known = time + run.recovery.detect_s
        unit.away[replica] = max(known, ready) + run.restart_s


def _corrupt(
    run: FleetRun,
    units: list[Unit],
    found: list[tuple[float, int, float]],
    time: float,
    node: int,
    random: random_module.Random,
) -> list[tuple[float, int, float]]:
    """A device corrupts its unit (and through merges all, unless contained) unless it is corrupt already."""
    chain = node // run.unit_nodes if run.corruption_contained else -1
    if any(known == chain for _, known, _ in found):
        return found
    for unit in units if chain < 0 else [units[chain]]:
        unit.advance(time)
        unit.corrupt_from = unit.state.progress
    delay = run.recovery.corruption_s
    return [*found, (time + (random.expovariate(1 / delay) if delay else 0.0), chain, time)]


def _discover(
    run: FleetRun, units: list[Unit], found: list[tuple[float, int, float]], until: float
) -> list[tuple[float, int, float]]:
    """Stop and roll back what is found to be corrupt before `until`."""
    for time, chain, _ in sorted(discovery for discovery in found if discovery[0] < until):
        for unit in units if chain < 0 else [units[chain]]:
            unit.advance(time)
            if unit.corrupt_from is not None:
                from_peers = Copy(unit.corrupt_from, unit.corrupt_from)
                unit.go_back(
                    from_peers if run.corruption_contained else unit.newest_durable(unit.corrupt_from),
                    "silent_corruption",
                )
            unit.stop(0.0, 0.0, run.restart_s)
    return [discovery for discovery in found if discovery[0] >= until]


def _totals(run: FleetRun, units: list[Unit], random: random_module.Random) -> dict[str, float]:
    total = run.horizon_s * run.units
    shares = {kind: sum(unit.lost[kind] for unit in units) / total for kind in KINDS}
    progress, goods = (
        sum(values) / total for values in zip(*((u.state.progress, u.state.goods) for u in units), strict=True)
    )
    shares["replicas_out"] = progress - goods
    slow, idle = _slow_share(run, random), _idle_share(run, units)
    after: tuple[tuple[Kind, float], ...] = (
        ("straggling", slow),
        ("merging", run.merge_share),
        ("idle_learners", idle),
    )
    for kind, share in after:
        shares[kind] = goods * share
        goods -= shares[kind]
    return {"goodput": goods} | {str(kind): share for kind, share in shares.items()}


def _slow_share(run: FleetRun, random: random_module.Random) -> float:
    """Mean loss of speed: looked at every minute, whether a unit has a slow host."""
    stragglers, slow = run.stragglers, 0
    minutes = int(run.horizon_s // 60)
    for _ in range(run.units):
        is_slow = bytearray(minutes)
        for _ in range(run.unit_nodes):
            time = random.expovariate(stragglers.per_day / DAY) if stragglers.per_day else float("inf")
            while time < run.horizon_s:
                end = min(run.horizon_s, time + random.expovariate(1 / stragglers.last_s))
                is_slow[int(time // 60) : int(end // 60)] = b"\1" * (int(end // 60) - int(time // 60))
                time += random.expovariate(stragglers.per_day / DAY)
        slow += sum(is_slow)
    return stragglers.slowdown * slow / (minutes * run.units)


def _idle_share(run: FleetRun, units: list[Unit]) -> float:
    """Share of training time in which fewer units than the quorum train."""
    edges = sorted((time, step) for unit in units for a, b in unit.intervals for time, step in ((a, 1), (b, -1)))
    up, idle, training, last = 0, 0.0, 0.0, 0.0
    for time, step in edges:
        training += up * (time - last)
        idle += up * (time - last) if up < run.quorum else 0.0
        up, last = up + step, time
    return idle / training if training and run.quorum > 1 else 0.0
