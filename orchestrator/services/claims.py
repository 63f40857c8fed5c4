"""Claims: of all the messages that name a run, exactly one claim wins, and it wins the lease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from orchestrator.models import Attempt, Desired, Process, Run
from orchestrator.models.contact import LEASE
from orchestrator.selectors.inputs import checkpoint_place, inputs_of, newest_checkpoint
from orchestrator.services.facts import run_change, run_locked
from orchestrator.services.tokens import digest_of, secret_new

if TYPE_CHECKING:
    from orchestrator.models import Node


@dataclass(frozen=True)
class Order:
    """What a node needs to start an attempt."""

    run_id: str
    attempt: int
    spec: dict[str, Any]
    lease_token: str
    lease_seconds: float
    resume: dict[str, Any] | None
    """The newest checkpoint of the run itself, or None to start from step 0."""
    inputs: dict[str, Any]
    """`models` by spec name and `datasets` by id: what the spec names by id and where to get it."""
    knobs: dict[str, Any]
    gpus: list[int]
    """Indices of the GPUs that it has on this node, for CUDA_VISIBLE_DEVICES."""
    processes: int
    """Training processes, one per GPU, that are to be started (torchrun's --nproc-per-node)."""


def run_claim(*, node: Node, run_id: str, attempt: int) -> Order | None:
    """Give a dispatched run to `node`; None when the message is old, doubled, or not for it."""
    token = secret_new()
    now = timezone.now()
    with transaction.atomic():
        won = Run.objects.filter(
            pk=run_id,
            attempt=attempt,
            node=node,
            process=Process.DISPATCHED,
            desired=Desired.RUN,
        ).update(
            process=Process.CLAIMED,
            last_contact=now,
            complete=False,
        )
        if won != 1:
            return None
        row = Attempt.objects.get(run_id=run_id, number=attempt)
        row.claimed, row.lease_digest = now, digest_of(token)
        row.lease_expires = now + LEASE
        row.save(update_fields=["claimed", "lease_digest", "lease_expires"])
        run = run_locked(run_id)
        run_change(run, who=node.name, reason=f"Preparing on {node.name}.", phase="")
        return Order(
            run_id=run_id,
            attempt=attempt,
            spec=run.spec,
            lease_token=token,
            lease_seconds=LEASE.total_seconds(),
            resume=checkpoint_place(newest_checkpoint(run)),
            inputs=inputs_of(run),
            knobs=run.knobs,
            gpus=row.gpus,
            processes=max(1, len(row.gpus)),
        )


def claim_fail(*, node: Node, run_id: str, attempt: int, cause: str, message: str) -> bool:
    """End an attempt that its node could not start; False when it is not the node's any more."""
    # Here and not above: outcomes and claims need each other.
    from orchestrator.services.outcomes import Ending, attempt_end  # noqa: PLC0415

    with transaction.atomic():
        run = run_locked(run_id)
        mine = run.attempt == attempt and run.node_id == node.pk
        if not mine or run.process not in (Process.CLAIMED, Process.ALIVE):
            return False
        attempt_end(run, attempt, Ending("failed", cause, message), who=node.name)
        return True
