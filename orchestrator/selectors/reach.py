"""Within whose reach a checkpoint lies: on the server for every node, else on the disk that it was saved on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import F, Q

from orchestrator.models import Attempt, Checkpoint, Process, Run
from orchestrator.models.contact import node_alive
from orchestrator.selectors.externals import (
    external_in_reach,
    external_named,
    external_names,
    where_words,
)
from orchestrator.selectors.inputs import checkpoint_named, data_sources, holder_of, model_names
from orchestrator.selectors.members import members_holding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.models import Node


def is_stored(checkpoint: Checkpoint) -> bool:
    """Whether the server, or the artifact store, has a whole copy."""
    return bool(checkpoint.stored) and checkpoint.stored == checkpoint.sha256


def within_reach(checkpoint: Checkpoint, node: Node) -> bool:
    """Whether a run on `node` can read the files: from its own disk, or from the server."""
    if is_stored(checkpoint):
        return True
    if checkpoint.deleted is not None:
        return False
    holder = holder_of(checkpoint)
    return holder is None or holder.local or holder.pk == node.pk


def resume_point(run: Run, node: Node) -> Checkpoint | None:
    """The checkpoint from which the run goes on at `node`; None to begin at step 0.

    The newest one of the newest attempt that saved any, of those within reach. When the node that holds newer
    ones is gone, a copy on the server serves, also of one that the keep policy has removed since.
    """
    newest = newest_saved(run)
    if newest is None:
        return None
    kept = Checkpoint.objects.filter(Q(deleted=None) | Q(stored=F("sha256")), run=run)
    for one in kept.select_related("run").order_by("-attempt", "-step"):
        # Removed ones behind the newest were taken back, and are not to be gone on from.
        stands = one.deleted is None or (one.attempt, one.step) < (newest.attempt, newest.step)
        if stands and within_reach(one, node):
            return one
    return None


def newest_saved(run: Run) -> Checkpoint | None:
    """The newest checkpoint that the run keeps, wherever it lies."""
    kept = Checkpoint.objects.filter(deleted=None, run=run).select_related("run")
    return kept.order_by("-attempt", "-step").first()


def continues_here(run: Run, node: Node, attempt: int) -> bool:
    """Whether the attempt before `attempt` worked on this node too: then what lies on its disk is the newest."""
    before = Attempt.objects.filter(run=run, number__lt=attempt).exclude(claimed=None)
    last = before.order_by("-number").first()
    return last is None or last.node_id == node.pk


def out_of_reach(run: Run, node: Node) -> Iterator[str]:
    """Why the run cannot start on `node` yet, for each model that it needs and cannot read there."""
    own = newest_saved(run) if run.attempt else None
    if own is not None and not within_reach(own, node):
        holder = holder_of(own)
        # A node that is gone may never come back: then what the server has must do.
        if holder is not None and node_alive(holder):
            yield _on_its_way(own, holder)
    for name in model_names(run.spec):
        found = checkpoint_named(name)
        if found is None or within_reach(found, node):
            continue
        holder = holder_of(found)
        if holder is not None and node_alive(holder):
            yield _on_its_way(found, holder)
        else:
            where = f"lies on {holder.name}, which is gone" if holder else "was removed"
            yield f"cannot read the checkpoint of step {found.step}, which {where}"
    for name in external_names(run.spec):
        external = external_named(name)
        if external is not None and not external_in_reach(external, node):
            where = where_words(external)
            yield f"cannot read {name} ({external.name}), a folder on the disk of {where}"


def node_reads_checkpoint(node: Node, checkpoint: Checkpoint) -> bool:
    """Whether a run whose lease this node holds needs the checkpoint: its own, or one that its spec names."""
    return any(
        checkpoint.run_id == run.pk
        or any(
            (found := checkpoint_named(name)) is not None and found.pk == checkpoint.pk
            for name in model_names(run.spec)
        )
        for run in _leased(node)
    )


def node_reads_dataset(node: Node, dataset_id: str) -> bool:
    """Whether a run whose lease this node holds names the dataset."""
    return any(
        source.get("source") == dataset_id
        for run in _leased(node)
        for source in data_sources(run.spec)
    )


def _leased(node: Node) -> list[Run]:
    held = members_holding().filter(node=node).exclude(claimed=None).values("attempt__run")
    first = Q(node=node, process__in=(Process.CLAIMED, Process.ALIVE))
    return list(Run.objects.filter(first | Q(pk__in=held)))


def _on_its_way(checkpoint: Checkpoint, holder: Node) -> str:
    where = "artifact store" if settings.ANNEAL_ARTIFACTS_URL else "server"
    return (
        f"waits for the checkpoint of step {checkpoint.step}, which is on its way "
        f"from {holder.name} to the {where}"
    )
