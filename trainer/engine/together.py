"""How the ranks of a training come together: the first one briefs the others, which then do what it does.

A follower runs the same code as the first process on the same spec: only its voice is mute and its orders are
those that the first one has told.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.engine.failure import bad_input
from trainer.engine.job import execute
from trainer.engine.load import device_pick
from trainer.engine.mute import TOUCH_EVERY, Mute
from trainer.engine.ranks import Ranks, join, leave
from trainer.engine.session import Session
from trainer.engine.shared_orders import FollowedOrders, SharedOrders
from trainer.followers import GPUS, INPUTS
from trainer.spec import spec_parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.failure import Verdict
    from trainer.rundir import AttemptDir, RunDir
    from trainer.spec import RunSpec


def lead(session: Session, spec: RunSpec) -> Verdict:
    """Train as the first of several processes. Raises Halt or Failure when it ends otherwise."""
    orders = session.orders
    assert isinstance(orders, SharedOrders)
    followers = orders.followers
    with bad_input():
        device = device_pick(spec.resources.gpus)
    place = (followers.size, followers.port)
    ranks = join(0, *place, device, followers.listening, followers.address)
    files = [session.attempt.alive(f"rank-{rank}") for rank in range(1, followers.size)]
    waiting = Waiting(session, files)
    session.ranks = orders.ranks = replace(_divided(ranks, spec), waiting=waiting)
    session.ranks.told(
        {
            "spec": spec.model_dump(mode="json"),
            "model_path": session.model_path,
            "reference_path": session.reference_path,
            "reward_paths": dict(session.reward_paths),
            "datasets": {name: str(path) for name, path in session.datasets.items()},
            "voids": [list(void) for void in session.voids],
        }
    )
    verdict = execute(session, spec)
    leave()
    return verdict


class Waiting:
    """What the first process does while it waits for others: it obeys, and is heard of for as long as they work.

    Were it heard of because it waits, nobody would notice that another one hangs.
    """

    def __init__(self, session: Session, files: Sequence[Path]) -> None:
        """`files`: what the others touch while they work."""
        self._session, self._files = session, files
        self._next = 0.0
        self._seen = self._stamps()

    def __call__(self) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + TOUCH_EVERY
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps
            self._session.report.tick()
        self._session.orders.check()

    def _stamps(self) -> list[int]:
        return [file.stat().st_mtime_ns if file.exists() else 0 for file in self._files]


def follow(run: RunDir, attempt: AttemptDir) -> None:
    """Train as one of the others, to the end that the first one comes to."""
    place = {name: int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")}
    gpus = os.environ[GPUS]
    device = device_pick("auto" if gpus == "auto" else int(gpus))
    address = os.environ["MASTER_ADDR"]
    ranks = join(place["RANK"], place["WORLD_SIZE"], place["MASTER_PORT"], device, address=address)
    # On another machine things lie elsewhere.
    briefing = ranks.told(None) | json.loads(os.environ.get(INPUTS, "{}"))
    spec = spec_parse(briefing["spec"])
    ranks = _divided(ranks, spec)
    session = Session(
        run,
        attempt,
        Mute(attempt.alive(f"rank-{ranks.rank}")),
        FollowedOrders(run, attempt, ranks),
        model_path=briefing["model_path"],
        reference_path=briefing["reference_path"],
        reward_paths=briefing["reward_paths"],
        datasets={name: Path(path) for name, path in briefing["datasets"].items()},
        voids=[(number, step) for number, step in briefing["voids"]],
        ranks=ranks,
    )
    execute(session, spec)
    leave()


def _divided(ranks: Ranks, spec: RunSpec) -> Ranks:
    resources = spec.resources
    return replace(ranks, local=resources.local, sharded=resources.sharding == "full")
