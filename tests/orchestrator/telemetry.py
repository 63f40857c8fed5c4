"""Journal lines as a trainer writes them, and a client that pushes them."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Run, Series
from orchestrator.selectors.points import points_stored
from orchestrator.services.ingest import Ack, push_ingest

T0 = 1_790_000_000.0


def metrics(seq: int, step: int | None = None, **values: Any) -> dict[str, Any]:
    """A metrics line; its step is its seq unless given."""
    step = seq if step is None else step
    values = values or {"loss": float(seq)}
    return {"seq": seq, "time": T0 + seq, "type": "metrics", "step": step, "values": values}


def lines(first: int, last: int) -> list[dict[str, Any]]:
    """Metrics lines `first` to `last`."""
    return [metrics(seq) for seq in range(first, last + 1)]


def sample(seq: int, **fields: Any) -> dict[str, Any]:
    """A sample line."""
    return {
        "seq": seq,
        "time": T0 + seq,
        "type": "sample",
        "step": seq,
        "prompt_id": "p1",
        "group": 0,
        "prompt": "1+1=",
        "completion": "2",
        "token_ids": [5, 6],
        "logps": [-0.5, -0.25],
        "finish_reason": "stop",
        "reward": 1.0,
        "rewards": {"exact-match": 1.0},
        "advantage": 0.5,
        **fields,
    }


def answer(seq: int, item: str = "a" * 64, index: int = 0, **fields: Any) -> dict[str, Any]:
    """An answer of an evaluation, as its samples journal holds it."""
    return {
        "seq": seq,
        "time": T0 + seq,
        "type": "answer",
        "item": item,
        "index": index,
        "text": "2",
        "token_ids": [5, 6],
        "logps": [-0.5, -0.25],
        "tokens": 2,
        "finish_reason": "stop",
        "problem": "",
        "scores": {"exact-match": {"value": 1.0, "problem": ""}},
        "scorers": {"exact-match": "e" * 64},
        "sampling": "5" * 64,
        **fields,
    }


def reading(seq: int, item: str = "a" * 64, index: int = 0, **fields: Any) -> dict[str, Any]:
    """A reading of another model's answer."""
    where = {"item": item, "index": index, "model": "b" * 64}
    head = {"seq": seq, "time": T0 + seq, "type": "reading"}
    return {**head, **where, "logps": [-1.5, -0.75], "problem": "", **fields}


def judgement(seq: int, item: str = "a" * 64, index: int = 0, **fields: Any) -> dict[str, Any]:
    """What a judge said of two answers."""
    head = {"seq": seq, "time": T0 + seq, "type": "judgement", "item": item, "index": index}
    sides = {"left": "one", "right": "two", "repeat": 0, "judge": "d" * 64}
    return {**head, **sides, "outcome": "left", "problem": "", "said": "[[A]]", **fields}


def spans(seq: int, step: int, *parts: tuple[str, float], **fields: Any) -> dict[str, Any]:
    """A line of spans: phases with their seconds, one behind the other, from T0 + 10 times the step on."""
    found, at = [], 0.0
    for phase, seconds in parts or (("rollout", 2.0), ("update", 1.0)):
        found.append([phase, round(at, 6), round(at + seconds, 6)])
        at += seconds
    head = {"seq": seq, "time": T0 + seq, "type": "spans", "step": step, "process": "trainer"}
    return {**head, "steps": 1, "start": T0 + 10 * step, "spans": found, **fields}


def push(run: Run, events: list[dict[str, Any]], **words: Any) -> Ack:
    """Push lines as `ship` would; the first one's seq is the push's."""
    words = {"attempt": 1, "source": "trainer", "first": events[0]["seq"], **words}
    return push_ingest(run_id=run.pk, events=events, **words)


def stored_steps(run: Run, key: str = "loss") -> list[int]:
    """The steps of a metric as stored, in journal order."""
    return [int(point["step"]) for _, points in stored_of(run, key) for point in points]


def stored_of(run: Run, key: str = "loss") -> list[tuple[int, Any]]:
    """The points of a metric as logged, superseded ones too: attempt by attempt, in journal order."""
    return points_stored(run, [key]).get(key, [])


def stored_values(run: Run) -> dict[str, tuple[int, float]]:
    """The newest step and value of each metric."""
    found = points_stored(run, Series.objects.filter(run=run).values_list("key", flat=True))
    return {
        key: (int(parts[-1][1][-1]["step"]), float(parts[-1][1][-1]["value"]))
        for key, parts in found.items()
    }
