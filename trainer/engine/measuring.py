"""The work of an evaluation: a mean over held-out rows, every answer, or readings of others' answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer.engine.answers import Answers
from trainer.engine.evaluate import Evaluation
from trainer.engine.failure import Verdict, bad_input
from trainer.engine.readings import Readings
from trainer.spans import TRAINER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.dataset import Part
    from trainer.engine.policy import Policy
    from trainer.engine.session import Session
    from trainer.spec import RunSpec


def keeps_every_item(spec: RunSpec) -> bool:
    """Whether a prompt that cannot be answered is a failed item, not a row that is left out."""
    return spec.evaluation.answers == "all" or spec.evaluation.readings


def measure(session: Session, spec: RunSpec, policy: Policy, parts: Sequence[Part]) -> Verdict:
    """Measure the model once. Raises Failure for rows that do not hold what is asked for."""
    report, clock = session.report, session.clock
    report.status("eval")
    clock.lap()
    with clock.part("eval"):
        values = _values(session, spec, policy, parts)
    if values:
        report.metrics(0, values)
    clock.lap()
    report.spans(0, TRAINER, clock.spans, folded=clock.folded)
    return Verdict("finished", "finished", "evaluated")


def _values(
    session: Session, spec: RunSpec, policy: Policy, parts: Sequence[Part]
) -> dict[str, float]:
    if spec.evaluation.readings:
        with bad_input():
            readings = Readings(session, spec, policy, parts)
        readings.read()
        return {}
    if spec.evaluation.answers == "all":
        with bad_input():
            answers = Answers(session, spec, policy, parts)
        return answers.values()
    return Evaluation(session, spec, policy, parts, None).values(0)
