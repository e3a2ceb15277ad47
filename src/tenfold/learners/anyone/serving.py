"""The syncer of a run whose learners are loops of their own: without a campaign, its model from the first of them."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tenfold.config import Learners
from tenfold.core import InputError, StopRequest, TenfoldError, raise_file_limit
from tenfold.learners.anyone.founding import FOUNDING, Founding, SettingsReply, SettingsRequest
from tenfold.learners.outer import OuterOptimizer, spans_of_rank
from tenfold.learners.syncer.coordinator import Coordinator
from tenfold.learners.syncer.facts import RunFacts
from tenfold.learners.syncer.recorder import Recorder
from tenfold.learners.syncer.service import FileWatch, SyncerHandler, SyncerSite, work_until_done
from tenfold.learners.syncer.shard import ShardSettings, SyncerShard
from tenfold.learners.syncer.store import FragmentStore
from tenfold.learners.wire import Blob, BlobServer, Refused
from tenfold.ledger import Ledger, SyncerServing
from tenfold.train import code_of_exchange

WAIT_S = 0.1
SAY_S = 30.0
KIND = "train"


@dataclass
class FoundingHandler:
    """What arrives on the syncer's ports: before there is a model its parts alone, then all that learners say."""

    settings: Learners
    total: int
    founding: Founding
    say_refused: Callable[[str], None]
    inner: SyncerHandler | None = field(default=None, init=False)
    """Once the run has its model."""

    def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a control message. Raises TenfoldError (ask again) while there is no model."""
        if method == SettingsRequest.method:
            return self._settings().to_json()
        return self._opened().call(method, request)

    def _settings(self) -> SettingsReply:
        founded = self.founding.founded if self.inner else None
        return SettingsReply(
            inner_steps=self.settings.inner_steps,
            fragments=self.settings.fragments,
            precision=self.settings.precision,
            total=self.total,
            recipe=founded.recipe if founded else None,
        )

    def admit(self, key: str, header: dict[str, Any], size: int) -> None:
        """Take parts of a model, then contributions."""
        if key.startswith(FOUNDING):
            self.founding.admit(key, header, size)
        else:
            self._opened().admit(key, header, size)

    def receive(self, key: str, header: dict[str, Any], data: memoryview) -> dict[str, Any]:
        """Keep what was admitted."""
        if key.startswith(FOUNDING):
            return self.founding.receive(key, header, data)
        return self._opened().receive(key, header, data)

    def blob(self, key: str) -> Blob:
        """Give fragments and differences."""
        return self._opened().blob(key)

    def rejected(self, reason: str) -> None:
        """Note what was refused."""
        self.say_refused(reason)

    def _opened(self) -> SyncerHandler:
        if self.inner is None:
            raise TenfoldError("no learner has brought a model yet")
        return self.inner


def serve_own_loops(
    folder: Path,
    settings: Learners,
    total: int,
    where: SyncerSite,
    stop: StopRequest,
    ready: Callable[[BlobServer], None],
) -> bool:
    """Lead a run of `total` samples until it is finished (True) or stopped. `ready` is told when it listens.

    Raises InputError where the folder holds a run of another number of samples, Fenced when another takes over.
    """
    raise_file_limit()
    if settings.syncer_shards > 1:
        raise InputError(f"learners.syncer_shards = {settings.syncer_shards}: 1 where learners are loops of their own")
    founding = Founding(folder / "model", settings.fragments)
    with ExitStack() as stack:
        recorder = Recorder(lambda: _ledger(folder, total), lambda line: print(line, flush=True))
        stack.callback(recorder.close)
        handler = FoundingHandler(settings, total, founding, recorder.rejected)
        server = BlobServer(
            handler, where.security, bind=where.bind, control_port=where.port, bulk_port=where.bulk_port
        )
        stack.callback(server.close)
        ready(server)
        recorder.say(SyncerServing(), "the syncer serves")
        if not _await_model(founding, stop):
            return False
        coordinator, shard = _opened_run(where, settings, total, founding, recorder, stack)
        handler.inner = SyncerHandler(coordinator, shard, recorder.rejected)
        work_until_done(coordinator, shard, stop, FileWatch(recorder.say))
        return coordinator.finished


def _ledger(folder: Path, total: int) -> tuple[Ledger, int]:
    ledger = Ledger(folder / "ledger.sqlite")
    description = {"name": folder.resolve().name, "samples": total, "manifest": "", "config": {}}
    return ledger, ledger.start_run(KIND, f"own loops, {total} samples", description)


def _await_model(founding: Founding, stop: StopRequest) -> bool:
    """Until a learner has brought a model; says that it waits."""
    wait, said_at = threading.Event(), time.monotonic()
    while founding.founded is None:
        if stop.is_set:
            return False
        if time.monotonic() - said_at >= SAY_S:
            print("waiting for the first learner, which brings the model", flush=True)
            said_at = time.monotonic()
        wait.wait(WAIT_S)
    return True


def _opened_run(
    where: SyncerSite, settings: Learners, total: int, founding: Founding, recorder: Recorder, stack: ExitStack
) -> tuple[Coordinator, SyncerShard]:
    model = founding.founded
    if model is None:
        raise Refused("no learner has brought a model yet")
    facts = RunFacts(
        recipe=model.recipe,
        code=code_of_exchange(),
        config=model.config,
        manifest="",
        total_samples=total,
        sequences=model.batch,
        strikes=settings.strikes,
        stalled_after=settings.stalled_after,
        learners=0,
    )
    coordinator = Coordinator(where.folder, facts, recorder)
    stack.callback(coordinator.close)
    store = FragmentStore(where.shard(0))
    stack.callback(store.close)
    store.tidy()
    outer = OuterOptimizer(settings.outer_learning_rate, settings.outer_momentum, settings.precision)
    shard = SyncerShard(
        store,
        {fragment.index: fragment for fragment in founding.cut(model.shapes)},
        founding.initial,
        lambda fragment, rank, ranks: spans_of_rank(fragment, model.shapes, rank, ranks),
        ShardSettings(outer, settings.quorum, settings.grace, settings.norm_limit),
        coordinator,
        recorder.say,
    )
    coordinator.shards.append(shard)
    return coordinator, shard
