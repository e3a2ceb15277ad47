"""[learners] and [chaos]: several learners and a syncer that train one model, and faults injected into such a run on
purpose, to see what it makes of them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from tenfold.config.base import Section

Precision = Literal["float32", "bf16", "int8", "int4"]
ANYWHERE = ("0.0.0.0", "::", "[::]")
OWN_OPTIONS = frozenset(
    {"array", "job-name", "output", "error", "open-mode", "nodes", "requeue", "no-requeue", "parsable", "wrap"}
)


def _slurm_option(option: str) -> str:
    """One option of sbatch in one word; those that tenfold itself gives are refused."""
    found = re.fullmatch(r"--([a-z][a-z0-9-]*)(=.+)?", option)
    if found is None:
        raise ValueError('an option of sbatch is one word with its value, "--partition=gpu" or "--exclusive"')
    if found[1] in OWN_OPTIONS:
        raise ValueError(f"tenfold itself sets --{found[1]}; leave it out")
    return option


SlurmOption = Annotated[str, AfterValidator(_slurm_option)]


def with_new_names(document: Mapping[str, Any]) -> dict[str, Any]:
    """A campaign's values with the section [cluster] under its present name, and its key `learners` as `count`.

    Campaigns, checkpoints and ledgers made before the name changed have it. What is given under both names counts as
    the new one says.
    """
    former = document.get("cluster")
    if not isinstance(former, Mapping):
        return dict(document)
    renamed = {("count" if key == "learners" else key): value for key, value in former.items()}
    rest = {key: value for key, value in document.items() if key != "cluster"}
    present = rest.get("learners", {})
    return rest | {"learners": renamed | dict(present) if isinstance(present, Mapping) else present}


class Learners(Section):
    """[learners]: learners that train on their own and exchange parameter fragments (arXiv 2311.08105, 2604.21428)."""

    count: Annotated[int, Field(ge=0, le=4096)] = 0
    """How many; 0 for one plain run without a syncer."""
    launch: Literal["local", "slurm", "none"] = "local"
    """Who starts the learners: processes here, a Slurm job array, or you (`tenfold learner --syncer HOST:PORT`)."""
    slurm_options: list[SlurmOption] = []
    """More options of sbatch for each learner's job: ["--partition=gpu", "--gres=gpu:1", "--cpus-per-task=8"]."""
    slurm_ranks: Annotated[int, Field(ge=1)] = 1
    """Processes of each learner's job; several are started by torchrun, on the one node of the job."""
    batch_tokens: Annotated[int, Field(gt=0)] | None = None
    """Tokens in one inner step of one learner. Default: train.batch_tokens shared out."""
    inner_steps: Annotated[int, Field(ge=1)] = 8
    """Inner steps between two contributions of one fragment. More cost less to send and more in quality."""
    fragments: Annotated[int, Field(ge=1, le=1024)] = 4
    """Parts of the model that are exchanged one after another."""
    syncer_shards: Annotated[int, Field(ge=1, le=256)] = 1
    """Processes of the syncer; fragment i lies with number i modulo this. Not to be changed in a run."""
    quorum: Annotated[int, Field(ge=0)] = 1
    """Learners that must have contributed before a fragment is merged. 0: all, as in DiLoCo."""
    grace: Annotated[float, Field(ge=0)] = 0.0
    """Seconds a merge waits, at most, for learners that usually come a little later."""
    overlap: bool = True
    """Train on while a contribution is under way; false: wait until it is merged."""
    outer_learning_rate: Annotated[float, Field(gt=0)] = 1.0
    """Step of the outer optimizer along the merged pseudo-gradient."""
    outer_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Nesterov momentum of the outer optimizer. With 1 and 0 one learner alone trains exactly as without a syncer."""
    precision: Precision = "int4"
    """What a pseudo-gradient is sent in. What rounding leaves out is sent with the next one."""
    norm_limit: Annotated[float, Field(gt=1)] = 10.0
    """A contribution larger than this many times the usual is quarantined."""
    strikes: Annotated[int, Field(ge=1)] = 3
    """Quarantined contributions after which a learner is kept out."""
    stalled_after: Annotated[float, Field(gt=0)] = 5.0
    """Seconds without progress, at least, before a learner counts as dead; more where its steps are long."""
    crash_limit: Annotated[int, Field(ge=1)] = 5
    """Deaths of one process within a minute after which it is not started again."""
    bind: str = "127.0.0.1"
    """Where the syncer listens. Beyond loopback it needs a TLS certificate."""
    port: Annotated[int, Field(ge=0, le=65534)] = 0
    """Control port of the syncer, fragments go through the one after it, then two ports for each further shard; 0
    takes free ones."""
    tls_certificate: str | None = None
    """Certificate of the syncer (PEM), which learners trust."""
    tls_key: str | None = None
    """Its private key (PEM)."""

    @model_validator(mode="after")
    def _fits(self) -> "Learners":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.launch == "slurm" and self.bind in ANYWHERE:
            raise ValueError(
                'with launch = "slurm", bind is what learners connect to: a name or address of this machine'
            )
        if self.syncer_shards > self.fragments:
            raise ValueError(f"syncer_shards {self.syncer_shards}: each holds a fragment; at most {self.fragments}")
        if self.port and self.port + 2 * self.syncer_shards > 65536:
            raise ValueError(f"port {self.port}: {2 * self.syncer_shards} ports from there on go beyond 65535")
        return self


FaultKind = Literal[
    "kill", "stop", "hang", "slow", "partition", "delay", "loss", "bandwidth", "corrupt", "nan", "disk-full"
]
LEARNERS_ONLY: frozenset[FaultKind] = frozenset({"hang", "nan"})  # by a signal that only learners listen to
LASTING: frozenset[FaultKind] = frozenset({"stop", "slow", "partition", "delay", "loss", "bandwidth", "disk-full"})
LINK_FAULTS: frozenset[FaultKind] = frozenset({"partition", "delay", "loss", "bandwidth", "corrupt"})
"""Done to a learner's connection by a proxy, not to a process."""
AMOUNTS: dict[FaultKind, float] = {"slow": 5.0, "delay": 0.2, "loss": 0.05, "bandwidth": 1e6, "corrupt": 1.0}
"""How strong a fault is unless said: times slower, seconds one way, share of chunks, bytes a second, chunks."""

SYNCER = "syncer"
"""Name of the syncer's first process; further shards are syncer-1, …"""
TARGET = re.compile(r"learner-\d+|syncer(-[1-9]\d*)?|any")


class Fault(Section):
    """[[chaos.faults]]: one planned fault."""

    kind: FaultKind
    """kill: SIGKILL; stop: SIGSTOP, later SIGCONT; hang: the learner's main thread sleeps for ever; slow: stopped most
    of the time; partition, delay, loss, bandwidth, corrupt: the learner's connection to the syncer; nan: the
    learner's next gradient is no number; disk-full: every write of the process fails."""
    target: str = "any"
    """"learner-0", "learner-1", …, "syncer", with [learners] syncer_shards also "syncer-1", …, or "any": one of them,
    drawn. Faults of the connection: "syncer" means that of every learner, "syncer-1" theirs to this shard."""
    at: Annotated[float, Field(ge=0, lt=1)] | None = None
    """When: share of the run's tokens. Give this or at_seconds."""
    at_seconds: Annotated[float, Field(ge=0)] | None = None
    """When: seconds after the start."""
    seconds: Annotated[float, Field(gt=0)] = 5.0
    """How long it lasts (stop, slow, partition, delay, loss, bandwidth, disk-full; the others happen once)."""
    amount: Annotated[float, Field(gt=0)] | None = None
    """How strong: times slower (slow), seconds one way (delay), share of the chunks that stall (loss), bytes a second
    (bandwidth), damaged chunks (corrupt). Default: 5, 0.2, 0.05, 1e6, 1."""

    @field_validator("target")
    @classmethod
    def _is_a_process(cls, target: str) -> str:
        if not TARGET.fullmatch(target):
            raise ValueError('a target is "learner-0", "learner-1", …, "syncer", "syncer-1", … or "any"')
        return target

    @model_validator(mode="after")
    def _makes_sense(self) -> "Fault":
        if (self.at is None) == (self.at_seconds is None):
            raise ValueError(f'say when "{self.kind}" is due, by one of `at` and `at_seconds`')
        if self.target.startswith("syncer") and self.kind in LEARNERS_ONLY:
            raise ValueError(f'"{self.kind}" needs a learner as its target, or "any"')
        self._check_amount()
        return self

    def _check_amount(self) -> None:
        if self.amount is None:
            return
        if self.kind not in AMOUNTS:
            raise ValueError(f'"{self.kind}" takes no `amount`; {", ".join(AMOUNTS)} do')
        if self.kind == "loss" and self.amount > 1:
            raise ValueError(f"amount {self.amount:g} of a loss is a share, at most 1")
        if self.kind == "slow" and self.amount <= 1:
            raise ValueError(f"amount {self.amount:g} of a slow says how many times slower, above 1")
        if self.kind == "corrupt" and self.amount % 1:
            raise ValueError(f"amount {self.amount:g} of a corrupt is a number of chunks, a whole one")


class Chaos(Section):
    """[chaos]: faults injected on purpose. None unless asked for."""

    faults: list[Fault] = []
    per_hour: Annotated[float, Field(ge=0, le=36_000)] = 0.0
    """Random faults an hour, over all processes together (a Poisson process)."""
    kinds: Annotated[list[FaultKind], Field(min_length=1)] = ["kill", "stop", "hang"]
    """Kinds the random ones are drawn from."""
    seconds: Annotated[float, Field(gt=0)] = 5.0
    """How long a random one lasts, of the kinds that last."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The same seed draws the same random faults."""
