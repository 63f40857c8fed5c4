"""Within whose reach checkpoints lie, and where runs may go on because of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from orchestrator.models import Attempt, Checkpoint, Dataset, Event, Node, Process, Run
from orchestrator.selectors.reach import (
    continues_here,
    node_reads_checkpoint,
    node_reads_dataset,
    resume_point,
    within_reach,
)
from orchestrator.services.claims import run_claim
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.placement import schedule
from tests.orchestrator.services.conftest import joined, launch, messages  # noqa: F401


@pytest.fixture
def far(joined):  # noqa: F811
    """Two nodes with disks of their own."""
    nodes = [joined("far-1"), joined("far-2")]
    Node.objects.update(local=False)
    return [Node.objects.get(pk=node.pk) for node in nodes]


@pytest.fixture
def worked(far, launch):  # noqa: F811
    """A run whose first attempt works on far-1."""
    run = launch()
    Node.objects.filter(pk=far[1].pk).update(drained=True)
    assert schedule() == 1
    assert run_claim(node=far[0], run_id=run.pk, attempt=1) is not None
    Node.objects.update(drained=False)
    run.refresh_from_db()
    return run


def save(run: Run, step: int, attempt: int = 1, stored: bool = False, **more) -> Checkpoint:
    sha256 = f"{step:064d}"
    fields = {"path": f"checkpoints/step-{step}", "stored": sha256 if stored else "", **more}
    return Checkpoint.objects.create(run=run, attempt=attempt, step=step, sha256=sha256, **fields)


def silence(node: Node) -> None:
    Node.objects.filter(pk=node.pk).update(last_seen=timezone.now() - timedelta(minutes=5))


def end(run: Run, attempt: int = 1) -> None:
    run.refresh_from_db()
    attempt_end(run, attempt, Ending("failed", "killed", "gone"), who="test")
    run.refresh_from_db()


def test_a_copy_on_the_server_is_within_everybodys_reach(worked, far):
    here, copied, gone = save(worked, 10), save(worked, 20, stored=True), save(worked, 30)
    Checkpoint.objects.filter(pk=gone.pk).update(deleted=timezone.now())
    gone.refresh_from_db()
    assert [within_reach(here, node) for node in far] == [True, False]
    assert [within_reach(copied, node) for node in far] == [True, True]
    assert [within_reach(gone, node) for node in far] == [False, False]
    Node.objects.filter(pk=far[0].pk).update(local=True)
    assert within_reach(here, far[1])


def test_a_run_waits_for_a_checkpoint_that_is_on_its_way(worked, far):
    save(worked, 10, stored=True)
    newest = save(worked, 20)
    end(worked)
    Node.objects.filter(pk=far[0].pk).update(drained=True)
    assert schedule() == 0
    worked.refresh_from_db()
    assert "waits for the checkpoint of step 20, which is on its way from far-1" in worked.reason
    Checkpoint.objects.filter(pk=newest.pk).update(stored=newest.sha256)
    assert schedule() == 1
    order = run_claim(node=far[1], run_id=worked.pk, attempt=2)
    assert order.resume["step"] == 20 and order.continues_here is False


def test_when_its_holder_is_gone_an_older_copy_serves_and_the_run_says_so(worked, far):
    save(worked, 10, stored=True, deleted=timezone.now())
    save(worked, 20)
    end(worked)
    silence(far[0])
    assert schedule() == 1
    order = run_claim(node=far[1], run_id=worked.pk, attempt=2)
    assert order.resume["step"] == 10
    alert = Event.objects.get(run=worked, type="alert", data__code="checkpoint-out-of-reach")
    assert (
        "from step 10: the checkpoint of step 20 lies on a node that is gone"
        in (alert.data["message"])
    )


def test_the_newest_attempt_leads_wherever_older_ones_had_come(worked, far):
    save(worked, 40, attempt=1, stored=True)
    Attempt.objects.create(run=worked, number=2, node=far[1], claimed=timezone.now())
    second = save(worked, 30, attempt=2, stored=True)
    assert resume_point(worked, far[0]) == second
    assert continues_here(worked, far[1], 3) and not continues_here(worked, far[0], 3)


def test_what_was_taken_back_is_not_gone_on_from(worked, far):
    healthy = save(worked, 10, stored=True)
    save(worked, 20, stored=True, deleted=timezone.now())
    assert resume_point(worked, far[1]) == healthy
    # One that the keep policy removed for a newer one is another matter.
    save(worked, 30)
    assert resume_point(worked, far[1]).step == 20
    Checkpoint.objects.update(deleted=timezone.now())
    assert resume_point(worked, far[1]) is None


def test_a_follower_waits_for_its_parents_checkpoint_or_goes_where_it_lies(worked, far, launch):  # noqa: F811
    final = save(worked, 10, final=True)
    attempt_end(worked, 1, Ending("finished", "finished", ""), who="test")
    child = launch("child", model={"name": f"run:{worked.pk}"}, resources={"labels": ["b"]})
    Node.objects.filter(pk=far[1].pk).update(labels=["b"])
    assert schedule() == 0
    child.refresh_from_db()
    assert "far-2 waits for the checkpoint of step 10" in child.reason
    silence(far[0])
    schedule()
    child.refresh_from_db()
    assert "far-2 cannot read the checkpoint of step 10, which lies on far-1, which is gone" in (
        child.reason
    )
    Checkpoint.objects.filter(pk=final.pk).update(stored=final.sha256)
    assert schedule() == 1


def test_a_node_reads_what_runs_with_its_lease_need(worked, far, ada):
    mine, other = save(worked, 10), Run.objects.create(name="o", owner=ada, spec={})
    theirs = Checkpoint.objects.create(run=other, attempt=1, step=1, path="x", sha256="1" * 64)
    assert node_reads_checkpoint(far[0], mine) and not node_reads_checkpoint(far[0], theirs)
    assert not node_reads_checkpoint(far[1], mine)
    rows = Dataset.objects.create(
        name="d", owner=ada, filename="d.jsonl", sha256="2" * 64, bytes=1, rows=1, columns=[]
    )
    assert not node_reads_dataset(far[0], rows.pk)
    spec = {
        **worked.spec,
        "model": {"name": f"checkpoint:{theirs.pk}"},
        "data": {"train": [{"source": rows.pk}]},
    }
    Run.objects.filter(pk=worked.pk).update(spec=spec)
    assert node_reads_checkpoint(far[0], theirs) and node_reads_dataset(far[0], rows.pk)
    Run.objects.filter(pk=worked.pk).update(process=Process.EXITED)
    assert not node_reads_checkpoint(far[0], theirs) and not node_reads_dataset(far[0], rows.pk)
