"""Small fleets for the tests."""

from dataclasses import replace

from tenfold.planner.fleet.run import Cause, CheckpointPolicy, EarlyFailures, FleetRun, Recovery, Stragglers

GPU = Cause("gpu", "device", 1 / 40)
BUG = Cause("bug", "host", 1 / 20, replaced=False)
RACK = Cause("rack", "rack", 1 / 5, group_nodes=4)
SITE = Cause("site", "site", 1 / 5, group_nodes=0)
CORRUPT = Cause("corruption", "device", 1 / 512, silent=True)

SMALL = FleetRun(
    256,
    CheckpointPolicy(1800, 20, 60),
    (GPU, BUG),
    days=10,
    recovery=Recovery(detect_s=300, restart_s=600, spares=100),
)
GROUPS = (GPU, BUG, RACK, SITE)
LEARNERS = replace(SMALL, mode="semi-synchronous", learners=8, quorum=7, causes=GROUPS)
ELASTIC = replace(SMALL, mode="elastic", replica_devices=16, causes=GROUPS)
WITH_CORRUPTION = (GPU, BUG, CORRUPT)

RUNS = {
    "synchronous": SMALL,
    "few spares": replace(SMALL, recovery=replace(SMALL.recovery, spares=1, repair_s=4000)),
    "no spares": replace(SMALL, recovery=replace(SMALL.recovery, spares=0, repair_s=1000)),
    "long repairs": replace(
        SMALL, causes=(GPU, replace(BUG, per_day=0.5)), recovery=replace(SMALL.recovery, spares=1, repair_s=20_000)
    ),
    "copies on peers": replace(
        SMALL, checkpoint=CheckpointPolicy(7200, 60, 300, peer_interval_s=120, peer_stall_s=2), causes=(GPU, BUG, RACK)
    ),
    "silent corruption": replace(SMALL, causes=WITH_CORRUPTION),
    "fails only while training": replace(
        SMALL, fails_while_stopped=False, recovery=Recovery(detect_s=1000, restart_s=2000, spares=10_000)
    ),
    "early failures": replace(SMALL, infant=EarlyFailures(0.3, 5 * 86400.0, 86400.0)),
    "stragglers": replace(SMALL, stragglers=Stragglers(1 / 20, 0.1, 40_000)),
    "elastic": ELASTIC,
    "elastic, silent corruption": replace(ELASTIC, causes=WITH_CORRUPTION),
    "elastic, few spares": replace(ELASTIC, causes=(GPU, BUG), recovery=replace(SMALL.recovery, spares=1)),
    "learners": replace(LEARNERS, merge_share=0.03),
    "two sites": replace(LEARNERS, sites=2, quorum=5),
    "learners, corruption spreads": replace(LEARNERS, quorum=1, causes=WITH_CORRUPTION),
    "learners, corruption contained": replace(LEARNERS, quorum=1, causes=WITH_CORRUPTION, corruption_contained=True),
    "elastic learners": replace(LEARNERS, learners=4, quorum=2, learner_elastic=True, replica_devices=8),
    "hardly ever up": replace(SMALL, causes=(replace(GPU, per_day=0.5),), days=3),
    "hardly ever up, silent corruption": replace(
        SMALL, causes=(replace(GPU, per_day=0.2), replace(CORRUPT, per_day=1 / 30)), days=5
    ),
    "always corrupt": replace(SMALL, causes=(replace(CORRUPT, per_day=0.5),), days=5),
    "elastic, a third away": replace(
        ELASTIC, causes=(replace(GPU, per_day=0.5),), days=3, recovery=replace(SMALL.recovery, restart_s=3600)
    ),
    "learners, often without quorum": replace(
        LEARNERS, quorum=6, causes=(replace(GPU, per_day=0.5), replace(CORRUPT, per_day=1 / 60)), days=4
    ),
}
