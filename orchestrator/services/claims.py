"""Claims: of all the messages that name a run, exactly one claim wins, and it wins the lease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from orchestrator.models import Attempt, Desired, Process, Run
from orchestrator.models.contact import LEASE
from orchestrator.models.restart_policy import policy_stored
from orchestrator.selectors.changes import past_changes
from orchestrator.selectors.fitting import processes_wanted
from orchestrator.selectors.inputs import checkpoint_place, inputs_of
from orchestrator.selectors.members import gang_of, machines_of
from orchestrator.selectors.pins import pins_of
from orchestrator.selectors.reach import continues_here, newest_saved, resume_point
from orchestrator.services.facts import event_add, run_change, run_locked
from orchestrator.services.members import BUSY, member_claim, member_fail
from orchestrator.services.tokens import digest_of, secret_new

if TYPE_CHECKING:
    from orchestrator.models import Checkpoint, Node


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
    asks: dict[str, int]
    """How often each request ("save", "evaluate") was made."""
    on_stall: str
    """What host does about a trainer that stalls: tell, restart or stop."""
    overrides: dict[str, Any]
    """Knobs of the spec that a restart changed."""
    voids: list[list[int]]
    """[attempt, step]: checkpoints of attempts up to that one behind that step are to be removed."""
    pins: list[int]
    """Steps whose checkpoints stay, whatever the run's keep policy says."""
    past: list[dict[str, Any]]
    """What earlier attempts changed and met, for an attempt on another machine."""
    continues_here: bool
    """The attempt before worked on this node: newer checkpoints on its disk are this run's own."""
    gpus: list[int]
    """Indices of the GPUs that it has on this node, for CUDA_VISIBLE_DEVICES."""
    processes: int
    """Training processes that the trainer is to have there: one per GPU, or as asked for on a CPU."""
    gang: dict[str, Any] | None
    """`index`, `names` and `secret` of an attempt on several machines; this node is the one at `index`."""


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
            return _member_order(node, run_id, attempt, token)
        row = Attempt.objects.select_related("node").get(run_id=run_id, number=attempt)
        row.claimed, row.lease_digest = now, digest_of(token)
        row.lease_expires = now + LEASE
        row.save(update_fields=["claimed", "lease_digest", "lease_expires"])
        run = run_locked(run_id)
        run_change(
            run, who=node.name, reason=f"Preparing on {', '.join(machines_of(run))}.", phase=""
        )
        resume = _resume_point(run, node)
        return _order(run, row, node, token, resume=resume, gpus=row.gpus, index=0)


def _member_order(node: Node, run_id: str, attempt: int, token: str) -> Order | None:
    """The order of a further machine. What it lacks of the checkpoint the first one hands over."""
    run = Run.objects.select_for_update(no_key=True).filter(pk=run_id).first()
    member = None if run is None else member_claim(run, attempt, node, token)
    if run is None or member is None:
        return None
    resume, row = resume_point(run, node), member.attempt
    return _order(run, row, node, token, resume=resume, gpus=member.gpus, index=member.index)


def _order(
    run: Run,
    row: Attempt,
    node: Node,
    token: str,
    *,
    resume: Checkpoint | None,
    gpus: list[int],
    index: int,
) -> Order:
    return Order(
        run_id=run.pk,
        attempt=row.number,
        spec=run.spec,
        lease_token=token,
        lease_seconds=LEASE.total_seconds(),
        resume=checkpoint_place(resume),
        inputs=inputs_of(run),
        knobs=run.knobs,
        asks=run.asks,
        # Only the first machine speaks, so only its silence says anything.
        on_stall=policy_stored(run.policy).on_stall if index == 0 else "tell",
        overrides=run.overrides,
        voids=run.voids,
        pins=pins_of(run.pk),
        past=past_changes(run),
        continues_here=continues_here(run, node, row.number),
        gpus=gpus,
        processes=max(len(gpus), processes_wanted(run.spec)),
        gang=gang_of(row, index),
    )


def _resume_point(run: Run, node: Node) -> Checkpoint | None:
    """Where the run goes on here; an alert when newer steps lie out of reach and are trained again."""
    found, newest = resume_point(run, node), newest_saved(run)
    if newest is not None and newest != found:
        place = f"step {found.step}" if found else "step 0"
        message = (
            f"Continues from {place}: the checkpoint of step {newest.step} lies on a node that is gone, and "
            "never reached the server."
        )
        event_add(run, "alert", level="warning", code="checkpoint-out-of-reach", message=message)
    return found


def claim_fail(*, node: Node, run_id: str, attempt: int, cause: str, message: str) -> bool:
    """End an attempt that its node could not start; False when it is not the node's any more."""
    # Here and not above: outcomes and claims need each other.
    from orchestrator.services.outcomes import Ending, attempt_end  # noqa: PLC0415

    with transaction.atomic():
        run = run_locked(run_id)
        if run.attempt != attempt or run.process not in BUSY:
            return False
        if run.node_id == node.pk:
            if run.process == Process.DISPATCHED:
                return False
        elif not member_fail(run, attempt, node, cause):
            return False
        elif run.process == Process.DISPATCHED:
            # Its first machine has not taken it yet, and must not any more.
            run_change(run, who=node.name, process=Process.CLAIMED)
        # A store that does not answer is no failure of the run: it is tried again for as long as it takes.
        state = "stopped" if cause == "store-away" else "failed"
        attempt_end(run, attempt, Ending(state, cause, message), who=node.name)
        return True
