"""Replay of what a run did while one shard of its syncer could not be reached."""

from contextlib import ExitStack
from pathlib import Path

from tenfold.config import load_campaign
from tenfold.core.folder import CampaignFiles
from tenfold.data.workspace import verified_manifest
from tenfold.learners.learner.replica import FragmentReplica, Replica, inner_step, inner_steps_of
from tenfold.learners.messages import Contributed, Contribution, Merged, Published
from tenfold.learners.outer import FragmentState, decode, digest_of_values, vector_of
from tenfold.learners.record.replay import replay_folder
from tenfold.learners.settings import batch_of, fragments_of, outer_optimizer
from tenfold.learners.syncer.coordinator import COORDINATOR_SCHEMA
from tenfold.learners.syncer.leases import Leases
from tenfold.learners.syncer.membership import Membership
from tenfold.learners.syncer.store import FencedDatabase, FragmentStore
from tenfold.train.learner import Learner, build_learner
from tenfold.train.ranks import Ranks, choose_device
from tests.learners.small import learners_campaign


class LoneReplica:
    """A learner and its syncer without a network: the test says what arrives and what does not."""

    def __init__(self, learner: Learner, folder: Path, stack: ExitStack) -> None:
        self.learner, self.outer = learner, outer_optimizer(learner.campaign)
        self.fragments = fragments_of(learner.campaign, learner.model)
        parameters = {name: p.detach() for name, p in learner.model.named_parameters()}
        self.stores = [FragmentStore(folder / f"shard-{number}") for number in range(len(self.fragments))]
        database = FencedDatabase(folder / "coordinator.sqlite", COORDINATOR_SCHEMA)
        for each in (database, *self.stores):
            stack.callback(each.close)
        self.states = [FragmentState.first(vector_of(parameters, fragment)) for fragment in self.fragments]
        for index, state in enumerate(self.states):
            self.stores[index].publish(index, state, None, [], Published(0, 0), digest_of_values(state.values))
        number = self._join(database)
        parts = [[parameters[name] for name in fragment.names] for fragment in self.fragments]
        local = [FragmentReplica(f, p, self.outer.precision) for f, p in zip(self.fragments, parts, strict=True)]
        self.replica = Replica(number, local, 4, self.outer.precision, learner.plan.steps * learner.plan.sequences)

    def _join(self, database: FencedDatabase) -> int:
        plan, batch = self.learner.plan, batch_of(self.learner.campaign)
        membership, leases = Membership(database, 3), Leases(database, plan.steps * plan.sequences)
        number = membership.join("learner-0", None, batch).number
        versions = {str(index): 0 for index in range(len(self.fragments))}
        membership.activate(number, {"kind": "initial", "life": None, "step": 0, "history": [], "versions": versions})
        lease = leases.grant(number, 24 * batch, position=0, stride=1)
        assert lease
        self.orders = inner_steps_of(lease, batch)
        return number

    def step(self) -> None:
        order = self.replica.placed(self.orders[self.replica.step])
        inner_step(self.learner, order)
        self.replica.trained(order.samples * self.learner.plan.context)

    def accept(self, contribution: Contribution, data: bytes) -> None:
        """The shard takes it and merges it alone."""
        index = contribution.fragment
        sha256 = self.stores[index].keep_payload(contribution, data)
        self.stores[index].add(contribution, sha256, len(data), 1.0, 0.0)
        self.replica.acknowledged(contribution)
        waiting = self.stores[index].waiting(index)
        pseudo_gradient = decode(data, self.fragments[index].size, self.outer.precision)
        state, difference = self.outer.step(self.states[index], [(1.0, pseudo_gradient)])
        published = Published(self.replica.total // 2 + self.replica.step, 2)  # far from where its lease says
        self.stores[index].publish(
            index, state, difference, [(waiting[0], 1.0)], published, digest_of_values(state.values)
        )
        self.states[index] = state

    def merge(self, index: int, contained: set[int]) -> None:
        state = self.states[index]
        published = self.stores[index].published(index, state.version)
        self.replica.merge(index, state.version, state.values, contained, published)


def test_what_was_history_and_never_arrived_is_sent_in_replay_too(tmp_path: Path) -> None:
    """To cut a contribution off rounds the rest; so the learner's next steps depend on it, accepted or not."""
    directory = learners_campaign(tmp_path, more="syncer_shards = 2\n").resolve()
    changes = ("learners.fragments=2", 'learners.precision="int8"')
    campaign, files = load_campaign(directory, changes), CampaignFiles(directory)
    manifest, ranks = verified_manifest(campaign, files), Ranks(0, 1, choose_device("cpu"))
    with ExitStack() as stack:
        run = LoneReplica(build_learner(campaign, files.data, manifest, ranks), files.learners, stack)
        run.step()
        run.accept(*run.replica.contribute(0))
        run.step()
        lost, _ = run.replica.contribute(0)  # the shard dies, and so will the learner
        run.merge(0, {0})
        assert run.replica.history == [Contributed(2, 0, 0, 1), Merged(2, 0, 1)]
        for _ in range(20):  # the last bits that differ grow until a rounded pseudo_gradient shows them
            run.step()
        arrived, data = run.replica.contribute(1)
        assert lost.as_history in arrived.history
        run.accept(arrived, data)
        assert run.replica.history == []
    replayed = replay_folder(build_learner(campaign, files.data, manifest, ranks), files.learners, lambda _: None)
    assert (replayed.contributions, replayed.versions) == (2, 2)
