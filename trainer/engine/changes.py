"""Live changes of a run by the step from which they count: read back, so that a resumed run repeats them.

Every change and every saving or evaluating on request is a line of the journal. An attempt that goes on
from a checkpoint finds the lines of the attempts before it, here or in `past.json` where they were on
another machine, and applies each change at the step at which it counted before.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trainer.journal import Tail

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainer.engine.orders import Orders
    from trainer.engine.session import Session
    from trainer.rundir import RunDir

KNOBS, ASKED = "knobs", "asked"
"""Codes of the alerts that tell of a change and of a request."""


@dataclass(frozen=True)
class Applied:
    """From optimizer step `step` on these knobs differed from the spec."""

    attempt: int
    step: int
    knobs: dict[str, Any]


class Changes:
    """What people want of a training, where the attempts before this one have not settled it."""

    def __init__(
        self, orders: Orders, past: list[Applied], done: dict[str, int], now: dict[str, Any]
    ) -> None:
        self._orders, self._past, self._done = orders, past, dict(done)
        # Without an order of its own an attempt goes on as the one before it did.
        self._standing = past[-1].knobs if past else now
        self._first = self._asked()

    def _asked(self) -> dict[str, Any]:
        order = self._orders.given()
        return self._standing if order is None else order.knobs

    def knobs(self, step: int) -> dict[str, Any]:
        """The knobs that optimizer step `step` is to have, beside the spec's own."""
        asked = self._asked()
        if asked != self._first:
            # Somebody decided anew: what an earlier attempt did at later steps is void.
            self._past = []
        elif any(one.step > step for one in self._past):
            return next((one.knobs for one in reversed(self._past) if one.step <= step), {})
        return asked

    def requests(self) -> dict[str, int]:
        """Requests ("save", "evaluate") that are still to be met, with their numbers."""
        order = self._orders.given()
        asks = {} if order is None else order.asks
        return {name: count for name, count in asks.items() if count > self._done.get(name, 0)}

    def met(self, requests: dict[str, int]) -> None:
        """Note that requests were met."""
        self._done |= requests


def past_of_all(session: Session) -> tuple[list[Applied], dict[str, int]]:
    """What earlier attempts changed and met, on every rank: the first one reads the journals on its disk."""
    ranks = session.ranks
    found: tuple[list[Applied], dict[str, int]] = ([], {})
    if ranks.first:
        found = past_changes(session.run, session.attempt.number, session.voids)
    if ranks.alone:
        return found
    past, done = ranks.told([[asdict(one) for one in found[0]], found[1]])
    return [Applied(**one) for one in past], done


def past_changes(
    run: RunDir, number: int, voids: Sequence[tuple[int, int]] = ()
) -> tuple[list[Applied], dict[str, int]]:
    """What attempts before `number` applied, by step, and the highest number of each request they met.

    What a rollback took back, as (attempt, step), is left out.
    """
    told: dict[int, list[dict[str, Any]]] = {}
    past = run.attempt(number).past
    if past.exists():
        for event in json.loads(past.read_text()):
            told.setdefault(int(event["attempt"]), []).append(event)
    for earlier in run.attempts():
        if earlier < number and (found := _told(run, earlier)):
            # A journal that lies here is the truth of its attempt.
            told[earlier] = found
    events = [event for attempt in sorted(told) for event in told[attempt]]
    done: dict[str, int] = {}
    for event in events:
        for name, count in event.get("asks", {}).items():
            done[name] = max(done.get(name, 0), int(count))
    standing = [
        event
        for event in events
        if not any(event["attempt"] <= at and event.get("step", 0) > step for at, step in voids)
    ]
    return history(standing), done


def history(events: Iterable[dict[str, Any]]) -> list[Applied]:
    """The changes that stand: what a later attempt did from a step on voids what an earlier one did there."""
    found: list[Applied] = []
    for event in events:
        if "knobs" in event:
            step, attempt = int(event["step"]), int(event["attempt"])
            found = [one for one in found if one.step < step]
            found.append(Applied(attempt, step, event["knobs"]))
    return found


def _told(run: RunDir, attempt: int) -> list[dict[str, Any]]:
    tail, found = Tail(run.attempt(attempt).journal("trainer")), []
    while lines := tail.read():
        for line in lines:
            if '"type":"alert"' not in line:
                continue
            event = json.loads(line)
            if event.get("code") in (KNOBS, ASKED) and event.get("level") == "info":
                found.append({"attempt": attempt, **event["data"]})
    return found
