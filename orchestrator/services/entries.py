"""Read the events of one push: what arrived from a node becomes checked, storable entries.

Nothing here touches the database. A faulty event raises PushError with a sentence, before anything of
its push is stored.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trainer.events import JOURNALS, number_decode, number_encode
from trainer.spans import LABEL_LENGTH, LINE_SPANS_MOST

FRAME_BYTES = 1 << 20
NAMES_PER_STEP = 2000
NAME_LENGTH = 200
NESTING = 64
INTEGER_END = 2**63
TIME_END = 1e11  # seconds; year 5138

FACTS = frozenset({"status", "checkpoint", "alert", "heartbeat"})
"""Events that change what is known of the run; `services.outcomes` applies them."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


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
    expect_next_in: float | None = None
    """The newest promise that came with metrics."""


def push_read(*, source: str, first: int, events: list[Any]) -> Push:
    """The entries of a push. Raises PushError when any event of it is faulty."""
    if source not in JOURNALS:
        raise PushError(f"'{_shown(source)}' is not a source; use {', '.join(JOURNALS)}")
    if not _is_count(first) or first < 1:
        raise PushError(f"first is {_shown(first)}; it must be the seq of the first event, from 1")
    if not isinstance(events, list):
        raise PushError("events must be a list")
    push = Push()
    for place, event in enumerate(events):
        seq = first + place
        try:
            _event_read(push, source, seq, event)
        except (ValueError, OverflowError, RecursionError) as error:
            raise PushError(f"event {seq} of {source}: {_shown(error, 200)}") from error
    return push


def _event_read(push: Push, source: str, seq: int, event: Any) -> None:
    if not isinstance(event, dict):
        raise ValueError("it must be a JSON object")
    if not _is_count(event.get("seq")) or event["seq"] != seq:
        raise ValueError(f"its seq is {_shown(event.get('seq'))}; events of a push are consecutive")
    time = number_decode(event.get("time"))
    if not 0 <= time < TIME_END:
        raise ValueError(f"its time {time} is not Unix time in seconds")
    kind = event.get("type")
    if kind == "metrics":
        _metrics_read(push, source, event, time)
    elif kind == "sample":
        push.samples.append(_sample_read(source, event))
    elif kind == "log":
        push.log += _log_read(source, event, time)
    elif kind == "spans":
        push.spans.append(_spans_read(source, event))
    elif isinstance(kind, str) and kind in FACTS:
        push.facts.append(_fact_read(event))
    else:
        raise ValueError(f"'{_shown(kind)}' is not a type of event that this server knows")


def _metrics_read(push: Push, source: str, event: dict[str, Any], time: float) -> None:
    # Points and their cursor share one numbering: two sources would collide.
    if source != "trainer":
        raise ValueError("metrics belong in the trainer's journal")
    step = _integer(event, "step")
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
        if not 0 < len(key) <= NAME_LENGTH or _CONTROL.search(key):
            raise ValueError(
                f"'{_shown(key)}' is not a metric name: 1 to {NAME_LENGTH} characters, no controls"
            )


def _fact_read(event: dict[str, Any]) -> dict[str, Any]:
    for name in ("step", "total_steps", "bytes"):
        if name in event or (event["type"], name) == ("checkpoint", "step"):
            _integer(event, name)
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
        "step": _integer(event, "step"),
        "prompt_id": _short_id(event.get("prompt_id", "")),
        "group": _integer(event, "group"),
        "prompt": _text(event.get("prompt", "")),
        "completion": _text(event.get("completion", "")),
        "finish_reason": _text(event.get("finish_reason") or "")[:16],
        "reward": _number_or_none(event.get("reward")),
        "rewards": storable(rewards),
        "advantage": _number_or_none(event.get("advantage")),
        "policy_version": None
        if event.get("policy_version") is None
        else _integer(event, "policy_version"),
        "tokens": {name: _numbers(event, name) for name in ("token_ids", "logps")},
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
        "step": _integer(event, "step"),
        "process": _label(event.get("process"), "process"),
        "steps": _integer({"steps": 1, **event}, "steps"),
        "start": start,
        "spans": [_span(span) for span in spans],
        "folded": min(_integer({"folded": 0, **event}, "folded"), 2**31 - 1),
    }


def _span(span: Any) -> list[Any]:
    if not isinstance(span, list) or len(span) != 3:
        raise ValueError(f"{_shown(span)} is not a span; use [phase, from, to]")
    begin, end = number_decode(span[1]), number_decode(span[2])
    if not 0 <= begin <= end < TIME_END:
        raise ValueError(f"a span from {begin} to {end}: both are seconds since start, in order")
    return [_label(span[0], "phase"), begin, end]


def _label(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= LABEL_LENGTH or _CONTROL.search(value):
        raise ValueError(
            f"{name} is {_shown(value)!r}; it must be 1 to {LABEL_LENGTH} characters, no controls"
        )
    return value


def text_storable(text: str) -> str:
    """Text that PostgreSQL takes: NUL and lone surrogates become the visible U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def storable(value: Any, depth: int = 0) -> Any:
    """JSON data that PostgreSQL takes: texts as above, non-finite numbers as their strings.

    Raises ValueError for data nested so deeply that whoever reads it might fail.
    """
    if depth > NESTING:
        raise ValueError(f"it is nested more than {NESTING} levels deep")
    if isinstance(value, str):
        return text_storable(value)
    if isinstance(value, float):
        return number_encode(value)
    if isinstance(value, dict):
        return {text_storable(str(key)): storable(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item, depth + 1) for item in value]
    return value


def _integer(event: dict[str, Any], name: str) -> int:
    value = event.get(name)
    if not _is_count(value):
        raise ValueError(f"{name} is {_shown(value)}; it must be a whole number from 0")
    return int(value)  # type: ignore[arg-type]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < INTEGER_END


def _number_or_none(value: Any) -> float | None:
    return None if value is None else number_decode(value)


def _numbers(event: dict[str, Any], name: str) -> list[float | str | None]:
    values = event.get(name) or []
    if not isinstance(values, list):
        raise ValueError(f"{name} must be a list of numbers")
    return [value if value is None else number_encode(number_decode(value)) for value in values]


def _text(value: Any) -> str:
    """A text; a prompt of chat messages is kept as its JSON."""
    if not isinstance(value, str):
        value = json.dumps(storable(value), ensure_ascii=False)
    return text_storable(value)


def _short_id(value: Any) -> str:
    """A prompt's id in 64 characters: a longer one keeps its beginning and a hash of the whole."""
    text = _text(value) if value is not None else ""
    if len(text) <= 64:
        return text
    return f"{text[:47]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _shown(value: Any, most: int = 60) -> str:
    """Something that arrived, short and without control characters, for an error sentence."""
    return _CONTROL.sub("\ufffd", str(value)[:most])
