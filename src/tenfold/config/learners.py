"""[learners]: several learners and a syncer that train one model."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

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
