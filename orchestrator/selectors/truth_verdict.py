"""What the truth panel says in words: whether all is here, what each fact means, and whether a promise is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils import timezone

from orchestrator.models import Desired, Process
from orchestrator.models.contact import GRACE, LEASE, in_contact
from orchestrator.selectors.state_why import HELD, PROCESS, WANTED

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.models import Run

ALLOWED = (LEASE + GRACE).total_seconds()


def verdict(
    streams: list[dict[str, Any]], *, newest: bool, complete: bool, carrier: str, silence: str
) -> dict[str, str]:
    """Level (good, live, warning or none) and sentences: is everything here that was written?

    `carrier` says what is known of ship: speaks, silent, done or unheard; `silence` how long it is silent.
    """
    stored = sum(stream["stored"] for stream in streams)
    missing = sum(stream["missing"] for stream in streams)
    refused = sum(stream["refused_pushes"] for stream in streams)
    if not streams or (carrier == "unheard" and not missing):
        return _said("none", "Nothing of this attempt has arrived yet.")
    all_here = f"{_lines(stored)} stored, each once"
    if newest and complete:
        words = f"Everything has arrived: {all_here}, as many as ship counted in the journals."
        level = "good"
    elif carrier == "silent":
        known = f"{_lines(missing)} known to be missing; what" if missing else "What"
        words = (
            f"Ship has been silent for {silence}. {all_here}. {known} was written since then waits in the "
            "journals at the node, and these figures do not count it."
        )
        level = "warning"
    elif missing:
        words = f"{all_here}; {_lines(missing)} on the way. Nothing is lost: the journals keep it."
        level = "live"
    elif newest:
        words = f"Nothing is missing: {all_here}. More may come."
        level = "live"
    else:
        words = f"Nothing is known to be missing of this older attempt: {all_here}."
        level = "good"
    if refused:
        many = "1 push was" if refused == 1 else f"{refused} pushes were"
        words += f" {many} refused as faulty, see below."
        level = "warning"
    return _said(level, words)


def _said(level: str, words: str) -> dict[str, str]:
    return {"level": level, "words": words[0].upper() + words[1:]}


def _lines(count: int) -> str:
    return "1 line is" if count == 1 else f"{count:,} lines are".replace(",", "\u2009")


def fact_words(run: Run, now: datetime) -> dict[str, str]:
    """What each of the five facts means at this moment."""
    by = f", says {run.desired_by}" if run.desired_by and run.desired != Desired.RUN else ""
    phase = "as the trainer said last" if run.phase else "the trainer has not said"
    return {
        "desired": WANTED[Desired(run.desired)] + by,
        "process": PROCESS[Process(run.process)],
        "contact": _contact(run, now),
        "phase": phase,
        "data": _data(run),
    }


def _contact(run: Run, now: datetime) -> str:
    if run.process not in HELD:
        return "there is no process that would have to speak"
    if run.last_contact is None:
        return "nothing of this attempt has spoken yet"
    silence = max(0.0, (now - run.last_contact).total_seconds())
    if in_contact(run, now):
        return f"heard {silence:.0f} s ago; {ALLOWED:.0f} s are allowed"
    return f"silent for {silence:.0f} s; {ALLOWED:.0f} s are allowed"


def _data(run: Run) -> str:
    if not run.attempt:
        return "nothing was ever sent"
    if run.complete:
        return "as many lines are stored as ship counted"
    if run.process in HELD:
        return "more comes while the attempt is at work"
    return "ship has not said that all is delivered"


def promise_words(
    *, promised: float | None, due: datetime | None, overdue: float | None, carrier: str
) -> str:
    """Whether the trainer keeps its promise, and who else may be the cause of its silence."""
    if promised is None or due is None or overdue is None:
        return "The attempt is not at work or has not spoken yet: the trainer owes nobody a word."
    if not overdue:
        return "The trainer keeps its promise."
    if carrier != "speaks":
        return "The trainer may have spoken: ship, which carries its words, is silent."
    moment = timezone.localtime(due)
    return f"The trainer broke its promise to speak by {moment:%H:%M:%S}."


def span(seconds: float) -> str:
    """A length of time in one unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
