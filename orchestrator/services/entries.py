"""Read the events of one push: what arrived from a node becomes checked, storable entries.

Nothing here touches the database. A faulty event raises PushError with a sentence, before anything of
its push is stored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from orchestrator.services.answer_entries import answer_read, judgement_read, reading_read
from orchestrator.services.event_fields import (
    CONTROL,
    integer,
    is_count,
    number_or_none,
    numbers,
    shown,
    storable,
    text,
    text_storable,
)
from orchestrator.services.played import played_read
from trainer.events import JOURNALS, number_decode
from trainer.spans import LABEL_LENGTH, LINE_SPANS_MOST

FRAME_BYTES = 1 << 20
NAMES_PER_STEP = 2000
NAME_LENGTH = 200
TIME_END = 1e11  # seconds; year 5138

FACTS = frozenset({"status", "checkpoint", "alert", "heartbeat"})
"""Events that change what is known of the run; `services.outcomes` applies them."""
OF_ANSWERS = ("answer", "reading", "judgement", "played")
"""Events of an evaluation, which `services.answers` stores where the run works for a comparison, and of a
playground (`services.played`)."""


class PushError(ValueError):
    """A push that cannot be stored; the text says which event and why."""


class Line(NamedTuple):
    """One metrics line: values by name, all of them numbers."""

    seq: int
    step: int
    time: float
    values: dict[str, float]


@dataclass
class Push:
    """The events of one push by what becomes of them."""

    lines: list[Line] = field(default_factory=list)
    names: set[tuple[str, ...]] = field(default_factory=set)
    """The names that lines of it held together: each set of them is checked once."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)
    spans: list[dict[str, Any]] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)
    judgements: list[dict[str, Any]] = field(default_factory=list)
    played: list[dict[str, Any]] = field(default_factory=list)
    expect_next_in: float | None = None
    """The newest promise that came with metrics."""


def push_read(*, source: str, first: int, events: list[Any]) -> Push:
    """The entries of a push. Raises PushError when any event of it is faulty."""
    if source not in JOURNALS:
        raise PushError(f"'{shown(source)}' is not a source; use {', '.join(JOURNALS)}")
    if not is_count(first) or first < 1:
        raise PushError(f"first is {shown(first)}; it must be the seq of the first event, from 1")
    if not isinstance(events, list):
        raise PushError("events must be a list")
    push = Push()
    for place, event in enumerate(events):
        seq = first + place
        try:
            _event_read(push, source, seq, event)
        except (ValueError, OverflowError, RecursionError) as error:
            raise PushError(f"event {seq} of {source}: {shown(error, 200)}") from error
    return push


def _event_read(push: Push, source: str, seq: int, event: Any) -> None:
    if not isinstance(event, dict):
        raise ValueError("it must be a JSON object")
    if not is_count(event.get("seq")) or event["seq"] != seq:
        raise ValueError(f"its seq is {shown(event.get('seq'))}; events of a push are consecutive")
    time = number_decode(event.get("time"))
    if not 0 <= time < TIME_END:
        raise ValueError(f"its time {time} is not Unix time in seconds")
    kind = event.get("type")
    if kind == "metrics":
        _metrics_read(push, source, event, time)
    elif kind == "sample":
        push.samples.append(_sample_read(source, event))
    elif kind in OF_ANSWERS:
        _of_answers(push, source, kind, event)
    elif kind == "log":
        push.log += _log_read(source, event, time)
    elif kind == "spans":
        push.spans.append(_spans_read(source, event))
    elif isinstance(kind, str) and kind in FACTS:
        push.facts.append(_fact_read(event))
    else:
        raise ValueError(f"'{shown(kind)}' is not a type of event that this server knows")


def _of_answers(push: Push, source: str, kind: str, event: dict[str, Any]) -> None:
    if source != "samples":
        raise ValueError(f"'{kind}' belongs in the samples journal")
    if kind == "answer":
        push.answers.append(answer_read(event))
    elif kind == "reading":
        push.readings.append(reading_read(event))
    elif kind == "played":
        push.played.append(played_read(event))
    else:
        push.judgements.append(judgement_read(event))


def _metrics_read(push: Push, source: str, event: dict[str, Any], time: float) -> None:
    # Points and their cursor share one numbering: two sources would collide.
    if source != "trainer":
        raise ValueError("metrics belong in the trainer's journal")
    step = integer(event, "step")
    values = event.get("values")
    if not isinstance(values, dict):
        raise ValueError("values must be an object of numbers by metric name")
    if len(values) > NAMES_PER_STEP:
        raise ValueError(f"it holds {len(values)} metrics; {NAMES_PER_STEP} is the most")
    names = tuple(values)
    if names not in push.names:
        _names_check(names)
        push.names.add(names)
    if not set(map(type, values.values())) <= {float}:
        values = {key: number_decode(value) for key, value in values.items()}
    if values:
        push.lines.append(Line(event["seq"], step, time, values))
    if "expect_next_in" in event:
        push.expect_next_in = promise_read(event["expect_next_in"])


def _names_check(names: tuple[str, ...]) -> None:
    for key in names:
        if not 0 < len(key) <= NAME_LENGTH or CONTROL.search(key):
            raise ValueError(
                f"'{shown(key)}' is not a metric name: 1 to {NAME_LENGTH} characters, no controls"
            )


def _fact_read(event: dict[str, Any]) -> dict[str, Any]:
    for name in ("step", "total_steps", "bytes"):
        if name in event or (event["type"], name) == ("checkpoint", "step"):
            integer(event, name)
    for name in ("state", "phase", "cause", "message", "path", "sha256", "level", "code"):
        if not isinstance(event.get(name, ""), str):
            raise ValueError(f"{name} must be a text")
    for name, kind, words in (("data", dict, "an object"), ("removed", list, "a list")):
        if event.get(name) is not None and not isinstance(event[name], kind):
            raise ValueError(f"{name} must be {words}")
    if event["type"] == "status" and not event.get("state"):
        raise ValueError("a status names its state")
    if event.get("expect_next_in") is not None:
        promise_read(event["expect_next_in"])
    fact: dict[str, Any] = storable(event)
    return fact


def promise_read(value: Any) -> float:
    """A promise to speak again within so many seconds; 0 comes with a last word.

    Raises ValueError when it is not one.
    """
    seconds = number_decode(value)
    if not 0 <= seconds <= 86_400:
        raise ValueError(f"expect_next_in is {seconds}; it must be within 0 and 86400 seconds")
    return seconds


def _sample_read(source: str, event: dict[str, Any]) -> dict[str, Any]:
    if source != "samples":
        raise ValueError("samples belong in the samples journal")
    rewards = event.get("rewards") or {}
    if not isinstance(rewards, dict):
        raise ValueError("rewards must be an object of numbers by reward")
    return {
        "seq": event["seq"],
        "step": integer(event, "step"),
        "prompt_id": _short_id(event.get("prompt_id", "")),
        "group": integer(event, "group"),
        "prompt": text(event.get("prompt", "")),
        "completion": text(event.get("completion", "")),
        "finish_reason": text(event.get("finish_reason") or "")[:16],
        "reward": number_or_none(event.get("reward")),
        "rewards": storable(rewards),
        "advantage": number_or_none(event.get("advantage")),
        "policy_version": None
        if event.get("policy_version") is None
        else integer(event, "policy_version"),
        "tokens": {name: numbers(event, name) for name in ("token_ids", "logps")},
    }


def _log_read(source: str, event: dict[str, Any], time: float) -> list[dict[str, Any]]:
    if source not in ("trainer", "host"):
        raise ValueError("log lines belong in the journals of trainer and host")
    lines = event.get("lines")
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ValueError("lines must be a list of texts")
    return [
        {"seq": event["seq"], "number": number, "time": time, "text": text_storable(line)}
        for number, line in enumerate(lines)
    ]


def _spans_read(source: str, event: dict[str, Any]) -> dict[str, Any]:
    if source != "trainer":
        raise ValueError("spans belong in the trainer's journal")
    start, spans = number_decode(event.get("start")), event.get("spans")
    if not 0 <= start < TIME_END:
        raise ValueError(f"its start {start} is not Unix time in seconds")
    if not isinstance(spans, list) or len(spans) > LINE_SPANS_MOST:
        raise ValueError(f"spans must be a list of at most {LINE_SPANS_MOST} [phase, from, to]")
    return {
        "seq": event["seq"],
        "step": integer(event, "step"),
        "process": _label(event.get("process"), "process"),
        "steps": integer({"steps": 1, **event}, "steps"),
        "start": start,
        "spans": [_span(span) for span in spans],
        "folded": min(integer({"folded": 0, **event}, "folded"), 2**31 - 1),
    }


def _span(span: Any) -> list[Any]:
    if not isinstance(span, list) or len(span) != 3:
        raise ValueError(f"{shown(span)} is not a span; use [phase, from, to]")
    begin, end = number_decode(span[1]), number_decode(span[2])
    if not 0 <= begin <= end < TIME_END:
        raise ValueError(f"a span from {begin} to {end}: both are seconds since start, in order")
    return [_label(span[0], "phase"), begin, end]


def _label(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LABEL_LENGTH or CONTROL.search(value):
        raise ValueError(
            f"{name} is {shown(value)!r}; it must be 1 to {LABEL_LENGTH} characters, no controls"
        )
    return value


def _short_id(value: Any) -> str:
    """A prompt's id in 64 characters: a longer one keeps its beginning and a hash of the whole."""
    whole = text(value) if value is not None else ""
    if len(whole) <= 64:
        return whole
    return f"{whole[:47]}~{hashlib.sha256(whole.encode()).hexdigest()[:16]}"
