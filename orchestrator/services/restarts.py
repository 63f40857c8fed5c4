"""Restarts by cause: what a failed attempt makes of its run, by the run's policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import DataError, OperationalError, connection, transaction
from django.utils import timezone

from orchestrator.models import Checkpoint, LogLine, Node, Process
from orchestrator.models.restart_policy import RestartPolicy, policy_parse, policy_stored
from orchestrator.selectors.attempt_points import first_sick_step
from orchestrator.selectors.changes import spec_with_overrides
from orchestrator.selectors.spec_arithmetic import row_tokens, tokens_per_step
from orchestrator.services.facts import event_add
from trainer.live import value_at
from trainer.spec import Problem, SpecError

if TYPE_CHECKING:
    from orchestrator.models import Run
    from orchestrator.models.restart_policy import LogRule
    from orchestrator.services.outcomes import Ending

CURABLE = frozenset({"killed", "node-lost", "fenced", "gpu-busy"})
"""Failures that are not the run's own: it goes on elsewhere while restarts remain."""
FROM_OUTSIDE = CURABLE | {"stall"}
"""Ends that the trainer did not choose: a stop or pause that was asked for meanwhile is met by them."""
LINES = 5000
MATCH_MS = 1000
MICROBATCH, RATE = "batch.tokens_per_microbatch", "optimizer.lr"


def policy_checked(raw: Any) -> dict[str, Any]:
    """The policy as it is stored. Raises SpecError that names the faulty field."""
    policy = raw if isinstance(raw, RestartPolicy) else policy_parse(raw)
    for number, rule in enumerate(policy.log_rules):
        problem = _pattern_problem(rule.pattern)
        if problem:
            place = f"policy.log_rules.{number}.pattern"
            raise SpecError([Problem(path=place, message=problem)])
    return policy.model_dump(mode="json", exclude_defaults=True)


def _pattern_problem(pattern: str) -> str:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT ''::text ~ %s::text", [pattern])
    except DataError as error:
        return str(error).splitlines()[0]
    return ""


def decides_late(run: Run) -> bool:
    """Whether only host's word ends an attempt: it comes behind the log that rules look at, and when the
    trainer's memory is free."""
    return policy_stored(run.policy).acts


def failed(run: Run, ending: Ending) -> dict[str, Any]:
    """What a failed attempt makes of its run, which people want to go on."""
    policy = policy_stored(run.policy)
    rule, line = _matching(run, policy, ending)
    if rule is not None:
        shown = f"The log rule '{rule.pattern}' matched “{line[:200]}”"
        if rule.action == "no-retry":
            return ended(ending.cause, f"{ending.message} {shown}: no retry.".strip())
        return _by_rule(run, ending, rule, shown)
    if ending.cause in CURABLE:
        return restarted(run, ending)
    if ending.cause == "stall" and policy.on_stall == "restart":
        return restarted(run, ending)
    try:
        if ending.cause == "oom" and policy.on_oom == "smaller-microbatch":
            return _smaller(run, ending)
        if ending.cause == "nan" and policy.on_nan == "rollback":
            return _rolled_back(run, ending, policy.nan_lr_factor)
    except SpecError as error:
        # Methods may have changed on the server since; what a node says is stored all the same.
        why = f"The policy could not act: {str(error).splitlines()[0]}"
        return ended(ending.cause, f"{ending.message} {why}")
    return ended(ending.cause, ending.message)


def ended(cause: str, reason: str) -> dict[str, Any]:
    """The facts of a run that has ended."""
    return {"process": Process.EXITED, "cause": cause, "reason": reason}


def queued(cause: str, reason: str) -> dict[str, Any]:
    """The facts of a run that goes back to the queue."""
    return {
        "process": Process.NONE,
        "cause": cause,
        "reason": reason,
        "phase": "",
        "last_contact": None,
        "leaves_for": "",
    }


def restarted(
    run: Run, ending: Ending, how: str = "Continues from its newest checkpoint", **more: Any
) -> dict[str, Any]:
    """Back to the queue while restarts remain; `more` are facts that only a restart brings."""
    if run.restarts >= run.max_restarts:
        spent = f"All {run.max_restarts} restarts are used." if run.max_restarts else ""
        cause = "node-lost" if ending.cause == "fenced" else ending.cause
        return ended(cause, f"{ending.message} {spent}".strip())
    count = f"restart {run.restarts + 1} of {run.max_restarts}"
    reason = f"{ending.message} {how} ({count})."
    return {**queued(ending.cause, reason), "restarts": run.restarts + 1, **more}


def _by_rule(run: Run, ending: Ending, rule: LogRule, shown: str) -> dict[str, Any]:
    if rule.action == "retry":
        return restarted(run, ending, f"{shown}: continues from its newest checkpoint")
    name = Node.objects.filter(pk=run.node_id).values_list("name", flat=True).first() or ""
    facts = restarted(
        run,
        ending,
        f"{shown}: continues elsewhere, never again on {name}",
        excluded_nodes=sorted({*run.excluded_nodes, name} - {""}),
    )
    if "restarts" in facts:
        _note(run, "node-excluded", f"{shown}: {name} is ruled out for this run.")
    return facts


def _smaller(run: Run, ending: Ending) -> dict[str, Any]:
    spec = spec_with_overrides(run)
    now = int(run.knobs.get(MICROBATCH, value_at(spec, MICROBATCH)))
    # More than a whole step needs is no bound at all: halving it would change nothing.
    half = min(now, tokens_per_step(spec)) // 2
    if half < row_tokens(spec)[0]:
        why = f"{MICROBATCH} = {now} cannot be halved: a single sequence may be as long."
        return ended("oom", f"{ending.message} {why}")
    how = f"Continues with {MICROBATCH} {now} → {half}"
    facts = restarted(run, ending, how, overrides={**run.overrides, MICROBATCH: half})
    if "restarts" in facts:
        _note(run, "oom-retry", f"Out of memory: {MICROBATCH} {now} → {half}.")
    return facts


def _rolled_back(run: Run, ending: Ending, factor: float) -> dict[str, Any]:
    sick = first_sick_step(run, run.attempt)
    behind = Checkpoint.objects.filter(run=run, deleted=None)
    if sick is not None:
        behind = behind.filter(step__lt=sick)
    if run.voids:
        # It failed again from where it was sent back to: that one was not healthy either.
        last_step = run.voids[-1][1]
        tried = not behind.filter(step__gt=last_step).exists()
        behind = behind.filter(step__lt=last_step) if tried else behind
    healthy = behind.order_by("-step").first()
    step = healthy.step if healthy else 0
    rate = float(run.knobs.get(RATE, value_at(spec_with_overrides(run), RATE)))
    lower = float(f"{rate * factor:.6g}")
    knobs = {**run.knobs, RATE: lower} if RATE in run.knobs else run.knobs
    text = f"step {step}" if step else "the start: no checkpoint lies before it"
    how = f"Rolled back to {text}, {RATE} {rate:g} → {lower:g}"
    facts = restarted(
        run,
        ending,
        how,
        overrides={**run.overrides, RATE: lower},
        knobs=knobs,
        voids=[*run.voids, [run.attempt, step]],
    )
    if "restarts" in facts:
        gone = Checkpoint.objects.filter(run=run, deleted=None, step__gt=step)
        gone.update(deleted=timezone.now())
        first = f" First bad signal at step {sick}." if sick is not None else ""
        _note(run, "nan-rollback", f"{how}.{first}")
    return facts


def _matching(run: Run, policy: RestartPolicy, ending: Ending) -> tuple[LogRule | None, str]:
    """The first rule that matches the attempt's last lines or its last message, and the line."""
    for rule in policy.log_rules:
        if (line := _line_matching(run, rule.pattern, ending.message)) is not None:
            return rule, line
    return None, ""


def _line_matching(run: Run, pattern: str, message: str) -> str | None:
    lines = LogLine.objects.filter(run=run, attempt=run.attempt).order_by("-id")[:LINES]
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # Somebody's expression may be slow: it must not hold up what nodes report.
            cursor.execute(f"SET LOCAL statement_timeout = {MATCH_MS}")
            cursor.execute("SELECT %s::text ~ %s::text", [message, pattern])
            if cursor.fetchone()[0]:
                return message
            found = LogLine.objects.filter(pk__in=lines.values("pk"), text__regex=pattern)
            text = found.order_by("id").values_list("text", flat=True).first()
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
            return text
    except OperationalError:
        _note(
            run, "log-rule", f"The log rule '{pattern}' took longer than {MATCH_MS} ms: left out."
        )
        return None


def _note(run: Run, code: str, message: str) -> None:
    event_add(run, "alert", level="warning", code=code, message=message)
