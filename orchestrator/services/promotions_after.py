"""Promotions that follow a run by themselves: once it has finished, its checkpoint is compared, once."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q

from orchestrator.models import Comparison, Run, State
from orchestrator.selectors.comparisons import comparison_get, comparison_progress
from orchestrator.selectors.inputs import final_checkpoint
from orchestrator.selectors.removals import is_being_deleted
from orchestrator.services.comparisons import comparison_create
from orchestrator.services.facts import event_add, run_locked
from orchestrator.services.hints import hint
from orchestrator.services.promotion_rules import baseline_named
from orchestrator.services.promotions import CODE
from trainer.problems import SpecError
from trainer.spec import CHECKPOINT_PREFIX

RULE = ("better_on", "not_worse_on", "margin")


def promotions_begin() -> list[str]:
    """Carry out the rules of runs that have finished; the ids of those runs."""
    over = Run.objects.filter(promotion__has_key="better_on", state=State.FINISHED)
    over = over.exclude(promotion__has_key="begun")
    # Its last lines may still be on their way, and the checkpoint with them.
    over = over.filter(Q(complete=True) | Q(checkpoints__final=True)).distinct()
    return [pk for pk in over.values_list("pk", flat=True) if promotion_begin(run_id=pk)]


def promotion_begin(*, run_id: str) -> bool:
    """Compare the final checkpoint of a finished run with its rule's baseline. False where that was done before.

    What stands in its way is told as an event of the run, in a sentence, and is not tried again.
    """
    with transaction.atomic():
        run = run_locked(run_id)
        rule = run.promotion
        if "better_on" not in rule or "begun" in rule or run.state != State.FINISHED:
            return False
        if is_being_deleted(run_id):
            return False
        try:
            with transaction.atomic():
                made = _compared(run)
        except (SpecError, ValueError) as error:
            problem = str(error)
            begun = {"comparison": "", "problem": problem}
            level, message = "warning", f"The promotion rule could not be carried out: {problem}"
        else:
            begun = {"comparison": made.pk, "problem": ""}
            level, message = "info", f"Its promotion is decided by the comparison “{made.name}”."
        run.promotion = {**rule, "begun": begun}
        run.save(update_fields=["promotion"])
        event_add(run, "alert", level=level, code=CODE, message=message)
        hint("run", run=run.pk)
    return True


def promotions_failed_tell() -> list[str]:
    """Tell at its run, once, of a comparison that failed and decides nothing by itself; ids of the runs."""
    begun = Run.objects.filter(promotion__begun__problem="")
    undecided = Comparison.objects.filter(promotion__has_key="better_on").exclude(
        promotion__has_key="decided"
    )
    told = []
    for pk in begun.filter(
        promotion__begun__comparison__in=list(undecided.values_list("pk", flat=True))
    ).values_list("pk", flat=True):
        with transaction.atomic():
            run = run_locked(pk)
            made = comparison_get(run.promotion["begun"]["comparison"])
            if made is None or run.promotion["begun"]["problem"]:
                continue
            found = comparison_progress(made)
            if found.state not in ("failed", "stopped"):
                continue
            run.promotion["begun"]["problem"] = found.reason
            run.save(update_fields=["promotion"])
            words = f"The comparison “{made.name}” {found.state}, so nothing is approved: {found.reason}"
            event_add(run, "alert", level="warning", code=CODE, message=words)
            told.append(pk)
    return told


def _compared(run: Run) -> Comparison:
    """Raises SpecError or ValueError with what is missing."""
    rule, final = run.promotion, final_checkpoint(run)
    if final is None:
        raise ValueError("the run left no checkpoint that is kept")
    return comparison_create(
        owner=run.owner,
        checkpoints=[baseline_named(rule, run.spec), f"{CHECKPOINT_PREFIX}{final.pk}"],
        prompts=rule["prompts"],
        scorers=rule["scorers"],
        sampling=rule["sampling"],
        seed=rule["seed"],
        name=f"Promotion of {run.name}",
        promotion={name: rule[name] for name in RULE},
    )
