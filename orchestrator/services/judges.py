"""Judges of a comparison: ask a model which answers are better, once for each pair of answers."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from orchestrator.models import ENDED, Answer, ArmRun, Comparison, Judgement, Run
from orchestrator.selectors.comparisons import arms_of, comparison_get, comparison_progress
from orchestrator.selectors.judges import PURPOSE, Judge, asked_of, judge_runs, judges_of
from orchestrator.services.comparison_runs import TAG, rows_store
from orchestrator.services.judgement_reuse import judgements_reuse
from orchestrator.services.runs import run_create, run_stop
from trainer.answering import PAIRS, judge_digest
from trainer.problems import Problem, SpecError
from trainer.spec import spec_parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.models import User
    from orchestrator.selectors.judges import Asked

TYPE = "pairwise-judge"
JUDGES_MOST = 16
PLACE = "evaluation.judge"
SOURCE = {"source": "arithmetic", "split": "test"}
"""Stands for the rows while knobs are checked."""

log = logging.getLogger(__name__)


def judge_checked(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a judge, defaults filled in. Raises SpecError that names them."""
    try:
        spec = spec_parse(_spec({"type": TYPE, **knobs}, [SOURCE], ""))
    except SpecError as error:
        raise SpecError([_in_our_words(problem) for problem in error.problems]) from error
    judge = spec.evaluation.judge
    assert judge is not None, "the spec names one"
    return judge.model_dump(mode="json")


def judges_checked(asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The knobs of an order's judges. Raises SpecError with the place of the faulty one."""
    found, problems = [], []
    for place, knobs in enumerate(asked):
        try:
            found.append(judge_checked(knobs))
        except SpecError as error:
            problems += [
                Problem(path=f"judges.{place}.{one.path}".rstrip("."), message=one.message)
                for one in error.problems
            ]
    if problems:
        raise SpecError(problems)
    return found


def judges_first(
    comparison: Comparison, checked: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Judges of a comparison that is being made, as it stores them; they wait for its answers."""
    pairs = tuple(_pairs(comparison, "", ""))
    made = [Judge(judge_digest(knobs), dict(knobs), pairs) for knobs in checked]
    return [judge.plain() for judge in {one.digest: one for one in made}.values()]


def judge_add(
    *,
    comparison_id: str,
    knobs: Mapping[str, Any],
    left: str = "",
    right: str = "",
) -> Judge:
    """Let a judge compare two arms, or every arm with the baseline; it is asked once the answers are there.

    The same judge again adds pairs, or asks more often; what it has said stands. Raises SpecError that names
    the field, ValueError where a comparison has too many judges.
    """
    checked = judge_checked(knobs)
    digest = judge_digest(checked)
    with transaction.atomic():
        comparison = Comparison.objects.select_for_update().get(pk=comparison_id)
        pairs = _pairs(comparison, left, right)
        judges = {judge.digest: judge for judge in judges_of(comparison)}
        before = judges.get(digest)
        if before is None and len(judges) >= JUDGES_MOST:
            raise ValueError(f"A comparison has at most {JUDGES_MOST} judges; remove one first.")
        kept = before.pairs if before else ()
        judge = Judge(digest, checked, tuple(dict.fromkeys((*kept, *pairs))))
        if before and (before.pairs, before.times) == (judge.pairs, judge.times):
            # Its run asks all of that already; one that has ended may have left something.
            judge = replace(judge, begun=before.begun if _live(comparison, judge) else "")
        judges[digest] = judge
        _store(comparison, list(judges.values()))
    judges_settle(comparison_id)
    return judge


def judge_ask(*, comparison_id: str, digest: str, failed: bool = False) -> list[Run]:
    """Ask what the judge has not been asked; with `failed`, what came to nothing once more.

    Raises KeyError for a judge that is not there, ValueError where there is nothing to ask.
    """
    with transaction.atomic():
        comparison = Comparison.objects.select_for_update().get(pk=comparison_id)
        judges = {one.digest: one for one in judges_of(comparison)}
        judge = judges[digest] = _as_now(judges[digest])
        if _live(comparison, judge):
            raise ValueError("It is at work: ask again once it has ended.")
        if failed:
            wasted = Judgement.objects.filter(comparison=comparison, judge=digest, outcome="")
            wasted.delete()
        _store(comparison, list(judges.values()))
        run = _launch(comparison, judge)
        if run is None:
            raise ValueError("There is nothing to ask it: every pair with two answers is judged.")
    return [run]


def judge_remove(*, comparison_id: str, digest: str, user: User) -> None:
    """Take a judge and what it said out of the comparison, and stop its runs. KeyError where it is not there."""
    with transaction.atomic():
        comparison = Comparison.objects.select_for_update().get(pk=comparison_id)
        judges = {one.digest: one for one in judges_of(comparison)}
        del judges[digest]
        runs = judge_runs(comparison).get(digest, [])
        for fact in runs:
            if fact.state not in ENDED:
                run_stop(run_id=fact.id, user=user, message="its judge was removed")
        # What a run still brings while it stops belongs to nobody.
        ties = ArmRun.objects.filter(arm__comparison=comparison, purpose=PURPOSE)
        ties.filter(run__in=[fact.id for fact in runs]).delete()
        Judgement.objects.filter(comparison=comparison, judge=digest).delete()
        _store(comparison, list(judges.values()))


def judges_settle(comparison_id: str | None = None) -> list[Run]:
    """Set to work the judges that waited for answers which are there now; in all comparisons, or in one."""
    waiting = Comparison.objects.filter(judges__contains=[{"begun": ""}])
    if comparison_id is not None:
        waiting = waiting.filter(pk=comparison_id)
    launched = []
    for pk in waiting.values_list("pk", flat=True):
        comparison = comparison_get(pk)
        if comparison is None or not comparison_progress(comparison).settled:
            continue
        try:
            launched += _begin(pk)
        except ValueError:
            # One that cannot be begun must not keep the others waiting.
            log.exception("the judges of comparison %s could not be set to work", pk)
    return launched


def _begin(comparison_id: str) -> list[Run]:
    launched = []
    with transaction.atomic():
        comparison = Comparison.objects.select_for_update().get(pk=comparison_id)
        judges, now = [], timezone.now().isoformat()
        for judge in judges_of(comparison):
            if judge.begun or _live(comparison, judge):
                # Pairs that were added while it works wait until it has ended.
                judges.append(judge)
                continue
            begun = replace(_as_now(judge), begun=now)
            try:
                with transaction.atomic():
                    run = _launch(comparison, begun)
                launched += [run] if run else []
            except SpecError as error:
                begun = replace(begun, problem="; ".join(str(one) for one in error.problems))
            judges.append(begun)
        _store(comparison, judges)
    return launched


def _launch(comparison: Comparison, judge: Judge) -> Run | None:
    """A run for what is missing; None where nothing is."""
    judgements_reuse(comparison, judge)
    rows = unjudged_rows(comparison, judge)
    if not rows:
        return None
    dataset = rows_store(rows, f"Pairs of {comparison.name}", comparison.owner)
    sources = [{"source": dataset.pk, "split": "test"}]
    name = f"{judge.knobs['model']} judges"[:120]
    run = run_create(owner=comparison.owner, spec=_spec(judge.knobs, sources, name), tags=[TAG])
    ArmRun.objects.create(arm=arms_of(comparison)[0], run=run, purpose=PURPOSE)
    return run


def unjudged_rows(comparison: Comparison, judge: Judge) -> list[dict[str, Any]]:
    """Rows of the prompts with pairs of answers that the judge has not been asked about as often as it shall."""
    missing = [one for one in asked_of(comparison, judge) if one.missing(judge)]
    keys = {key for one in missing for key in one.answers}
    texts = dict(Answer.objects.filter(pk__in=keys).values_list("pk", "text"))
    by_item: dict[int, list[dict[str, Any]]] = {}
    for one in missing:
        by_item.setdefault(one.item, []).append(_entry(one, judge, texts))
    rows = dict(comparison.items.filter(pk__in=list(by_item)).values_list("pk", "row"))
    return [{**rows[item], PAIRS: entries} for item, entries in by_item.items()]


def _entry(one: Asked, judge: Judge, texts: Mapping[int, str]) -> dict[str, Any]:
    """As `_pairs` holds it: the baseline on the left, and `said` names what is there already."""
    entry: dict[str, Any] = {
        "index": one.index,
        "left": one.baseline,
        "right": one.candidate,
        "left_text": texts[one.answers[0]],
        "right_text": texts[one.answers[1]],
    }
    if said := [time for time in judge.times if time in one.said]:
        entry["said"] = [
            {"left": one.candidate if first else one.baseline, "repeat": repeat}
            for first, repeat in said
        ]
    return entry


def _as_now(judge: Judge) -> Judge:
    """The judge under the digest that it has with the code that is here now: by it its verdicts are stored."""
    return replace(judge, digest=judge_digest(judge.knobs))


def _live(comparison: Comparison, judge: Judge) -> bool:
    return any(fact.state not in ENDED for fact in judge_runs(comparison).get(judge.digest, []))


def _pairs(comparison: Comparison, left: str, right: str) -> list[tuple[str, str]]:
    """(baseline, candidate) of what is asked for."""
    names = [arm.name for arm in arms_of(comparison)]
    if not left and not right:
        return [(names[0], name) for name in names[1:]]
    problems = [
        Problem(
            path=field,
            message=f"there is no model '{name[:60]}' here; use {', '.join(names)}"
            if name
            else "name both models, or neither to compare all with the baseline",
        )
        for field, name in (("left", left), ("right", right))
        if name not in names
    ]
    if not problems and left == right:
        problems = [Problem(path="right", message="name another model than on the left")]
    if problems:
        raise SpecError(problems)
    one, other = sorted((left, right), key=names.index)
    return [(one, other)]


def _store(comparison: Comparison, judges: Sequence[Judge]) -> None:
    comparison.judges = [judge.plain() for judge in judges]
    comparison.save(update_fields=["judges"])


def _spec(
    knobs: Mapping[str, Any], sources: Sequence[Mapping[str, Any]], name: str
) -> dict[str, Any]:
    """The run that asks a judge, as a spec; it loads no model."""
    return {
        "kind": "evaluate",
        "name": name,
        "model": {"name": "starter"},
        "data": {"eval": list(sources)},
        "rewards": [],
        "evaluation": {"judge": dict(knobs)},
    }


def _in_our_words(problem: Problem) -> Problem:
    """A field of a spec as the field that was asked for."""
    path = problem.path.removeprefix(PLACE).removeprefix(".")
    message = problem.message
    if not path:
        field, colon, rest = message.partition(": ")
        path, message = (field, rest) if colon and field.isidentifier() else ("", message)
    if path == "key_variable" and "pattern" in message:
        message = (
            "must be the name of a variable in the node's environment that begins with ANNEAL_JUDGE_, in "
            "capitals, digits and _; empty sends no key"
        )
    return Problem(path=path, message=message)
