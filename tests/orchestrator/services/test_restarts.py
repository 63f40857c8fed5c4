"""Restarts by cause: what a failed attempt makes of its run under each policy."""

from __future__ import annotations

import time

import pytest
from django.db import transaction

from orchestrator.models import Attempt, Checkpoint, Event, Run
from orchestrator.selectors.fitting import obstacle
from orchestrator.selectors.run_advice import advice
from orchestrator.services.claims import run_claim
from orchestrator.services.ingest import push_ingest
from orchestrator.services.outcomes import Ending, attempt_end, events_apply
from orchestrator.services.placement import schedule
from orchestrator.services.restarts import policy_checked
from orchestrator.services.runs import run_create, run_patch, run_retry, run_stop
from tests.orchestrator.conftest import SPEC
from trainer.spec import SpecError


@pytest.fixture
def failing(working, ada):
    """A run at work with this policy: `failing({"on_oom": ...}, max_restarts=2)`."""

    def make(policy, max_restarts=3, **words) -> Run:
        run = working(max_restarts=max_restarts, **words)
        return run_patch(run_id=run.pk, user=ada, changes={"policy": policy})

    return make


def fail(run: Run, cause: str, message: str = "it broke.", attempt: int | None = None) -> Run:
    """Host's word, which always decides."""
    word = {"type": "status", "state": "failed", "cause": cause, "message": message}
    return say(run, word, source="host", attempt=attempt or run.attempt)


def say(run: Run, *events: dict, source: str = "trainer", attempt: int = 1) -> Run:
    with transaction.atomic():
        locked = Run.objects.select_for_update(no_key=True).get(pk=run.pk)
        told = [{"seq": n, "time": time.time(), **event} for n, event in enumerate(events, 1)]
        events_apply(run=locked, attempt=attempt, source=source, events=told)
    run.refresh_from_db()
    return run


def again(run: Run) -> Run:
    """Place and claim the next attempt."""
    assert schedule() == 1
    run.refresh_from_db()
    order = run_claim(node=run.node, run_id=run.pk, attempt=run.attempt)
    assert order is not None
    run.order = order
    return run


def printed(run: Run, *lines: str) -> None:
    event = {"seq": 1, "time": time.time(), "type": "log", "lines": list(lines), "stream": "out"}
    assert push_ingest(run_id=run.pk, attempt=run.attempt, source="host", first=1, events=[event])


def metrics(run: Run, **by_step) -> None:
    lines = [
        {"seq": n, "time": 1e9 + n, "type": "metrics", "step": step, "values": {"loss": value}}
        for n, (step, value) in enumerate(by_step["loss"].items(), 1)
    ]
    push_ingest(run_id=run.pk, attempt=run.attempt, source="trainer", first=1, events=lines)


def alerts(run: Run, code: str) -> list[str]:
    found = Event.objects.filter(run=run, source="server", type="alert", data__code=code)
    return [event.data["message"] for event in found.order_by("id")]


@pytest.mark.parametrize("cause", ["oom", "nan", "crash", "bad-input", "disk"])
def test_without_a_policy_no_failure_of_the_run_itself_is_retried(working, cause):
    run = fail(working(), cause)
    assert (run.state, run.cause, run.restarts) == ("failed", cause, 0)


# --- out of memory ----------------------------------------------------------------------------------


def test_out_of_memory_goes_on_with_half_the_micro_batch_and_says_so(failing):
    run = failing({"on_oom": "smaller-microbatch"}, batch={"tokens_per_microbatch": 128})
    run = fail(run, "oom", "CUDA out of memory.")
    assert (run.state, run.restarts) == ("queued", 1)
    assert run.reason == (
        "CUDA out of memory. Continues with batch.tokens_per_microbatch 128 → 64 (restart 1 of 3)."
    )
    assert alerts(run, "oom-retry") == ["Out of memory: batch.tokens_per_microbatch 128 → 64."]
    run = again(run)
    assert run.order.overrides == {"batch.tokens_per_microbatch": 64}
    run = again(fail(run, "oom"))
    assert run.order.overrides == {"batch.tokens_per_microbatch": 32}


def test_a_bound_above_what_a_step_needs_is_first_brought_down_to_it(failing):
    run = fail(failing({"on_oom": "smaller-microbatch"}), "oom")
    spec_tokens = run.overrides["batch.tokens_per_microbatch"] * 2
    # 16 rows of arithmetic are far below the default of 16,384 tokens.
    assert 16 < spec_tokens < 1000


def test_a_micro_batch_of_one_sequence_is_not_halved_for_nothing(failing):
    run = fail(
        failing({"on_oom": "smaller-microbatch"}, batch={"tokens_per_microbatch": 12}), "oom"
    )
    assert (run.state, run.cause) == ("failed", "oom")
    assert "cannot be halved: a single sequence may be as long" in run.reason


def test_out_of_memory_ends_the_run_when_its_restarts_are_used(failing):
    run = failing({"on_oom": "smaller-microbatch"}, max_restarts=1)
    run = again(fail(run, "oom"))
    run = fail(run, "oom", "again.")
    assert (run.state, run.cause) == ("failed", "oom")
    assert run.reason == "again. All 1 restarts are used."
    assert len(alerts(run, "oom-retry")) == 1


def test_other_failures_are_no_business_of_the_policy_for_memory(failing):
    assert fail(failing({"on_oom": "smaller-microbatch"}), "crash").state == "failed"


def test_the_trainers_own_word_waits_for_hosts_when_a_policy_decides(failing):
    run = failing({"on_oom": "smaller-microbatch"})
    word = {"type": "status", "state": "failed", "cause": "oom", "message": "out of memory"}
    run = say(run, word)
    assert (run.process, run.restarts) == ("claimed", 0)
    assert Attempt.objects.get(run=run).cause == "oom"
    assert fail(run, "oom").state == "queued"


# --- not a number -----------------------------------------------------------------------------------


def saved(run: Run, *steps: int) -> None:
    for step in steps:
        Checkpoint.objects.create(
            run=run,
            attempt=run.attempt,
            step=step,
            path=f"checkpoints/step-{step}",
            sha256="c" * 64,
        )


def test_nan_rolls_back_to_the_newest_checkpoint_before_the_first_bad_signal(failing):
    run = failing({"on_nan": "rollback", "nan_lr_factor": 0.1}, optimizer={"lr": 1e-3})
    metrics(run, loss={1: 0.5, 2: 0.4, 3: 0.4, 4: "NaN", 5: 0.3, 6: "Infinity"})
    saved(run, 2, 4, 6)
    run = fail(run, "nan", "step 7: loss became nan.")
    assert (run.state, run.voids, run.overrides) == ("queued", [[1, 2]], {"optimizer.lr": 1e-4})
    assert "Rolled back to step 2, optimizer.lr 0.001 → 0.0001 (restart 1 of 3)." in run.reason
    assert alerts(run, "nan-rollback") == [
        "Rolled back to step 2, optimizer.lr 0.001 → 0.0001. First bad signal at step 4."
    ]
    kept = Checkpoint.objects.filter(run=run, deleted=None)
    assert [one.step for one in kept] == [2]
    run = again(run)
    assert (run.order.voids, run.order.resume["step"]) == ([[1, 2]], 2)


def test_a_second_failure_from_there_goes_one_checkpoint_further_back(failing):
    run = failing({"on_nan": "rollback"}, optimizer={"lr": 1e-3})
    metrics(run, loss={1: 0.5, 5: "NaN"})
    saved(run, 2, 4)
    run = again(fail(run, "nan"))
    assert run.voids == [[1, 4]]
    run = again(fail(run, "nan"))
    assert (run.voids, run.overrides) == ([[1, 4], [2, 2]], {"optimizer.lr": 2.5e-4})
    run = again(fail(run, "nan"))
    assert run.voids[-1] == [3, 0] and "to the start" in alerts(run, "nan-rollback")[-1]
    assert run.order.resume is None


def test_after_progress_a_new_failure_goes_back_to_the_new_checkpoint(failing):
    run = failing({"on_nan": "rollback"})
    metrics(run, loss={1: 0.5, 5: "NaN"})
    saved(run, 4)
    run = again(fail(run, "nan"))
    saved(run, 8)
    run = fail(run, "nan")
    assert run.voids == [[1, 4], [2, 8]]


def test_a_rate_that_was_changed_live_is_lowered_too(failing, ada):
    run = failing({"on_nan": "rollback"}, optimizer={"lr": 1e-3})
    run_patch(run_id=run.pk, user=ada, changes={"knobs": {"optimizer.lr": 4e-4}})
    saved(run, 4)
    run = fail(run, "nan")
    assert run.knobs == {"optimizer.lr": 2e-4} and run.overrides == {"optimizer.lr": 2e-4}


# --- rules by log -----------------------------------------------------------------------------------

NCCL = {"pattern": r"NCCL (error|WARN) \d+", "action": "exclude-node"}


def test_a_rule_rules_out_the_node_and_the_run_goes_on_elsewhere(failing, joined):
    run = failing({"log_rules": [NCCL]})
    printed(run, "step 1", "NCCL error 5 on rank 0", "bye")
    run = fail(run, "crash", "The trainer ended with exit code 1.")
    assert (run.state, run.excluded_nodes, run.restarts) == ("queued", ["n1"], 1)
    assert "matched “NCCL error 5 on rank 0”: continues elsewhere, never again on n1" in run.reason
    assert alerts(run, "node-excluded")
    assert schedule() == 0
    run.refresh_from_db()
    assert run.reason == "No node fits: n1 is ruled out for this run by a log rule."
    other = joined("n2")
    assert obstacle(run, other) == ""
    assert schedule() == 1


def test_a_rule_cancels_retries_even_of_a_killed_trainer(failing):
    run = failing({"log_rules": [{"pattern": "^licence expired", "action": "no-retry"}]})
    printed(run, "licence expired at noon")
    run = fail(run, "killed", "The trainer was killed (SIGKILL).")
    assert (run.state, run.restarts) == ("failed", 0)
    assert run.reason.endswith("matched “licence expired at noon”: no retry.")


def test_a_rule_retries_what_would_have_ended_the_run(failing):
    rule = {"pattern": "connection reset", "action": "retry"}
    run = failing({"log_rules": [rule]})
    run = fail(run, "crash", "OSError: connection reset by peer")
    assert (run.state, run.restarts) == ("queued", 1)


def test_the_first_rule_that_matches_decides_and_one_that_does_not_is_nothing(failing):
    rules = [
        {"pattern": "never there", "action": "exclude-node"},
        {"pattern": "broke", "action": "no-retry"},
        {"pattern": "broke", "action": "retry"},
    ]
    run = fail(failing({"log_rules": rules}), "killed")
    assert (run.state, run.excluded_nodes) == ("failed", [])
    assert fail(failing({"log_rules": rules[:1]}, name="other"), "crash").state == "failed"


def test_lines_of_earlier_attempts_do_not_count(failing):
    run = failing({"log_rules": [{"pattern": "fatal", "action": "no-retry"}]})
    printed(run, "nothing bad")
    run = again(fail(run, "killed"))
    attempt_one = run.attempt - 1
    assert attempt_one == 1
    run = fail(run, "killed")
    assert run.state == "queued"


def test_a_slow_expression_is_left_out_and_holds_nothing_up(failing, monkeypatch):
    monkeypatch.setattr("orchestrator.services.restarts.MATCH_MS", 1)
    run = failing({"log_rules": [{"pattern": r"(x+x+)+\1y", "action": "retry"}]})
    printed(run, *["x" * 3000] * 400)
    run = fail(run, "crash")
    assert run.state == "failed"
    assert "took longer than 1 ms: left out" in alerts(run, "log-rule")[0]


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        ({"on_oom": "pray"}, "on_oom"),
        ({"nan_lr_factor": 2}, "nan_lr_factor"),
        ({"no_such": 1}, "no_such"),
        ({"log_rules": [{"pattern": "", "action": "retry"}]}, "log_rules.0.pattern"),
        ({"log_rules": [{"pattern": "a", "action": "explode"}]}, "log_rules.0.action"),
        ({"log_rules": [NCCL, {"pattern": "(", "action": "retry"}]}, "log_rules.1.pattern"),
    ],
)
def test_a_faulty_policy_is_refused_by_its_field(ada, policy, path):
    with pytest.raises(SpecError) as refusal:
        run_create(owner=ada, spec=SPEC, policy=policy)
    assert [problem.path for problem in refusal.value.problems] == [f"policy.{path}"]


def test_a_policy_is_stored_without_its_defaults(db):
    assert policy_checked({"on_oom": "fail", "nan_lr_factor": 0.5}) == {}
    assert policy_checked({"on_nan": "rollback"}) == {"on_nan": "rollback"}


def test_a_lost_node_is_retried_elsewhere(working, joined):
    run = working()
    joined("n2")
    attempt_end(run, 1, Ending("failed", "node-lost", "Lost."), who="server")
    assert (run.state, run.restarts) == ("queued", 1)
    run.node.last_seen = None
    run.node.save()
    run = again(run)
    assert (run.node.name, run.attempt) == ("n2", 2)


def test_a_policy_or_a_spec_of_another_version_does_not_stand_in_the_way_of_facts(failing):
    run = failing({"on_oom": "smaller-microbatch"})
    Run.objects.update(spec={"objective": {"type": "forgotten"}})
    run = fail(run, "oom", "too large.")
    assert (run.state, run.cause) == ("failed", "oom")
    assert run.reason.startswith("too large. The policy could not act: objective")
    other = failing({}, name="other")
    Run.objects.filter(pk=other.pk).update(policy={"on_rain": "umbrella"})
    assert fail(other, "killed").state == "queued"


def test_a_person_who_retries_gives_a_node_that_was_ruled_out_another_chance(failing, ada):
    run = fail(failing({"log_rules": [NCCL]}), "crash", "NCCL error 5")
    assert run.excluded_nodes == ["n1"]
    run_stop(run_id=run.pk, user=ada)
    run = run_retry(run_id=run.pk, user=ada)
    assert (run.excluded_nodes, run.restarts) == ([], 0)
    assert schedule() == 1


def test_a_gpu_that_stays_taken_is_not_the_runs_own_fault(working):
    run = fail(working(max_restarts=1), "gpu-busy", "GPU 2 of n1 is still used.")
    assert (run.state, run.restarts, run.leaves_for) == ("queued", 1, "")
    run = again(run)
    run = fail(run, "gpu-busy", "GPU 2 of n1 is still used.", attempt=2)
    assert (run.state, run.cause) == ("failed", "gpu-busy")
    assert "All 1 restarts are used." in run.reason and "which process holds it" in advice(run)
