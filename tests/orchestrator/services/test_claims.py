"""Claims: one winner, whoever races; old, doubled and cancelled messages lose quietly."""

from __future__ import annotations

import threading

import pytest
from django.db import connection

from orchestrator.models import Attempt, Checkpoint, Process, Run
from orchestrator.selectors.run_advice import advice
from orchestrator.services.claims import claim_fail, run_claim
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.placement import schedule
from orchestrator.services.runs import run_stop
from orchestrator.services.tokens import digest_of, lease_check


def test_a_claim_gives_the_order_and_the_lease(joined, launch):
    node, run = joined(), launch()
    schedule()
    order = run_claim(node=node, run_id=run.pk, attempt=1)
    assert (order.run_id, order.attempt, order.resume) == (run.pk, 1, None)
    assert order.spec["objective"]["type"] == "sft"
    run.refresh_from_db()
    assert (run.state, run.process) == ("starting", Process.CLAIMED)
    attempt = Attempt.objects.get(run=run, number=1)
    assert attempt.lease_digest == digest_of(order.lease_token) != order.lease_token
    assert lease_check(order.lease_token) == attempt


def test_an_order_says_how_many_processes_are_to_train(joined, launch):
    node, run = joined(), launch(resources={"gpus": 0, "processes": 3})
    schedule()
    assert run_claim(node=node, run_id=run.pk, attempt=1).processes == 3


def test_a_second_delivery_loses(joined, launch):
    node, run = joined(), launch()
    schedule()
    assert run_claim(node=node, run_id=run.pk, attempt=1)
    assert run_claim(node=node, run_id=run.pk, attempt=1) is None


def test_old_cancelled_and_foreign_messages_lose(joined, launch, ada):
    node, run = joined(), launch()
    assert run_claim(node=node, run_id=run.pk, attempt=1) is None  # never sent
    schedule()
    assert run_claim(node=joined("n2"), run_id=run.pk, attempt=1) is None
    assert run_claim(node=node, run_id=run.pk, attempt=2) is None
    assert run_claim(node=node, run_id="aaaaaaaaaaaa", attempt=1) is None
    run_stop(run_id=run.pk, user=ada)
    assert run_claim(node=node, run_id=run.pk, attempt=1) is None
    assert Run.objects.get(pk=run.pk).state == "stopped"


@pytest.mark.django_db(transaction=True)
def test_of_eight_claims_at_once_one_wins(joined, launch):
    node, runs = joined(slots=5), [launch(f"r{i}") for i in range(5)]
    schedule()
    gate, won = threading.Barrier(8), []

    def race() -> None:
        gate.wait()
        for run in runs:
            if run_claim(node=node, run_id=run.pk, attempt=1):
                won.append(run.pk)
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == sorted(run.pk for run in runs)


def test_an_order_that_cannot_be_prepared_fails_the_run_with_the_sentence(working):
    run = working()
    words = {"run_id": run.pk, "cause": "bad-input", "message": "The dataset is damaged."}
    assert claim_fail(node=run.node, attempt=2, **words) is False
    assert claim_fail(node=run.node, attempt=1, **words) is True
    run.refresh_from_db()
    assert (run.state, run.cause, run.reason) == ("failed", "bad-input", "The dataset is damaged.")
    assert claim_fail(node=run.node, attempt=1, **words) is False


def test_a_store_that_is_away_costs_the_run_nothing_and_it_is_tried_again(working):
    run = working(max_restarts=0)
    words = "n1 cannot fetch its checkpoint. ANNEAL_ARTIFACTS_URL: s3://b does not answer."
    for attempt in (1, 2):
        assert run_claim(node=run.node, run_id=run.pk, attempt=attempt) or attempt == 1
        claim_fail(node=run.node, run_id=run.pk, attempt=attempt, cause="store-away", message=words)
        run.refresh_from_db()
        assert (run.state, run.cause, run.restarts) == ("queued", "store-away", 0)
        assert run.reason.startswith(words)
        assert "tried again by itself" in advice(run)
        assert schedule() == 1
        run.refresh_from_db()
        assert run.attempt == attempt + 1


def test_a_resumed_attempt_is_told_where_its_checkpoint_lies(working, joined):
    run = working()
    Checkpoint.objects.create(
        run=run, attempt=1, step=40, path="checkpoints/step-40", sha256="a" * 64
    )
    attempt_end(run, 1, Ending("failed", "killed", "gone"), who="test")
    schedule()
    order = run_claim(node=run.node, run_id=run.pk, attempt=2)
    assert (order.resume["step"], order.resume["path"]) == (40, "checkpoints/step-40")


def test_the_order_names_inputs_by_id(working, launch):
    parent = working()
    Checkpoint.objects.create(
        run=parent, attempt=1, step=10, path="checkpoints/step-10", sha256="b" * 64, final=True
    )
    attempt_end(parent, 1, Ending("finished", "finished", ""), who="test")
    child = launch("child", model={"name": f"run:{parent.pk}"})
    schedule()
    order = run_claim(node=parent.node, run_id=child.pk, attempt=1)
    place = order.inputs["models"][f"run:{parent.pk}"]
    assert (place["run"], place["step"], place["sha256"]) == (parent.pk, 10, "b" * 64)
