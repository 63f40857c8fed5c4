"""Claims: of all the messages that name a run, exactly one claim wins, and it wins the lease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from orchestrator.models import Attempt, Checkpoint, Dataset, Desired, Process, Run
from orchestrator.services.facts import LEASE, run_change, run_locked
from orchestrator.services.tokens import digest_of, secret_new
from trainer.spec import CHECKPOINT_PREFIX, RUN_PREFIX

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
        Attempt.objects.filter(run_id=run_id, number=attempt).update(
            claimed=now,
            lease_digest=digest_of(token),
            lease_expires=now + LEASE,
        )
        run = run_locked(run_id)
        run_change(run, who=node.name, reason=f"Preparing on {node.name}.", phase="")
        return Order(
            run_id=run_id,
            attempt=attempt,
            spec=run.spec,
            lease_token=token,
            lease_seconds=LEASE.total_seconds(),
            resume=_checkpoint_place(newest_checkpoint(run)),
            inputs=inputs_of(run),
            knobs=run.knobs,
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


def newest_checkpoint(run: Run) -> Checkpoint | None:
    """The checkpoint from which the run would go on."""
    return Checkpoint.objects.filter(run=run, deleted=None).order_by("-step").first()


def final_checkpoint(run: Run) -> Checkpoint | None:
    """What a finished run hands to its followers."""
    kept = Checkpoint.objects.filter(run=run, deleted=None)
    return kept.filter(final=True).order_by("-step").first() or kept.order_by("-step").first()


def inputs_of(run: Run) -> dict[str, Any]:
    """Where the checkpoints and datasets that the spec names by id are to be had."""
    models: dict[str, Any] = {}
    for name in model_names(run.spec):
        if found := checkpoint_named(name):
            models[name] = _checkpoint_place(found)
    wanted = {source["source"] for source in data_sources(run.spec)}
    datasets = {
        one.pk: {"sha256": one.sha256, "filename": one.filename, "mapping": one.mapping}
        for one in Dataset.objects.filter(pk__in=wanted)
    }
    return {"models": models, "datasets": datasets}


def model_names(spec: dict[str, Any]) -> list[str]:
    """The models that a spec names by id: `run:ID` and `checkpoint:ID`."""
    names = [spec.get(part, {}).get("name", "") for part in ("model", "reference")]
    return [name for name in names if name.startswith((RUN_PREFIX, CHECKPOINT_PREFIX))]


def data_sources(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Every source of rows in a spec."""
    data = spec.get("data", {})
    return [*data.get("train", []), *data.get("eval", [])]


def checkpoint_named(name: str) -> Checkpoint | None:
    """The checkpoint that `run:ID` or `checkpoint:ID` stands for, if it is there."""
    if name.startswith(RUN_PREFIX):
        run = Run.objects.filter(pk=name.removeprefix(RUN_PREFIX)).first()
        return final_checkpoint(run) if run else None
    pk = name.removeprefix(CHECKPOINT_PREFIX)
    return Checkpoint.objects.filter(pk=pk, deleted=None).first()


def _checkpoint_place(checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    if checkpoint is None:
        return None
    return {
        "checkpoint": checkpoint.pk,
        "run": checkpoint.run_id,
        "step": checkpoint.step,
        "path": checkpoint.path,
        "sha256": checkpoint.sha256,
    }
