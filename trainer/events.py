"""The events of a run's journals, and how numbers travel in them.

One JSON object a line. NaN and infinities are the strings "NaN", "Infinity" and "-Infinity" in
journals, REST and sockets, because JSON has no such numbers and lenient parsers disagree.
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal

Source = Literal["trainer", "samples", "host"]
"""The writer of a stream: one journal file per attempt and source."""

JOURNALS: dict[Source, str] = {
    "trainer": "journal.jsonl",
    "samples": "samples.jsonl",
    "host": "host.jsonl",
}

EventType = Literal[
    "status", "metrics", "sample", "log", "checkpoint", "alert", "heartbeat", "spans",
    "answer", "reading", "judgement", "played",
]  # fmt: skip
"""
status      state, phase, step, total_steps, cause, message, expect_next_in (s), data
metrics     step, values {name: number}
sample      step, prompt_id, group, prompt, completion, token_ids, logps, finish_reason, reward, rewards, advantage
log         lines [str], stream "out" | "err"
checkpoint  step, path, bytes, sha256 (of manifest.json), metrics, final
alert       level "info" | "warning" | "error", code, message, step
heartbeat   phase, step, expect_next_in (s)
spans       step, process, steps (that it stands for), start (Unix, s), spans [[phase, from, to]] (s behind start),
            folded (how many were added up)
answer      item, index, text, token_ids, logps, tokens, finish_reason, problem, scores {label: {value, problem}},
            scorers {label: digest}, sampling (digest): one answer of an evaluation, `trainer.answering` names it
reading     item, index, model (digest of its author), logps, problem, sampling: an answer as this model reads it
judgement   item, index, left, right, repeat, outcome, problem, said, judge (digest): what a judge said of a pair
played      request, voice, index, text, token_ids, pieces (the text of each token), logps, finish_reason, problem,
            readings {voice: logps}: an answer of a playground, and how likely its models find each of its tokens
Every event also has seq (its line number, from 1) and time (Unix, s).
"""

TrainerState = Literal[
    "starting", "running", "pausing", "stopping", "finished", "failed", "stopped", "paused"
]
TERMINAL = frozenset({"finished", "failed", "stopped", "paused"})
"""Trainer states after which an attempt writes no more."""

Cause = Literal[
    "finished",  # ran all its steps
    "budget",  # max_minutes or max_epochs reached
    "user",  # a person asked
    "policy",  # a rule asked
    "server-stopped",  # `up` went down
    "oom",
    "nan",
    "weight-sync",  # the sampler's weights are not the policy's
    "disk",
    "bad-input",
    "crash",
    "stall",  # said nothing for longer than expected, and the policy had it ended
    "killed",  # ended by a signal that nobody here sent
    "node-lost",
    "preempted",
    "fenced",  # a newer attempt took over
]

EXIT_FINISHED, EXIT_FAILED, EXIT_INVALID, EXIT_STOPPED, EXIT_PAUSED = 0, 1, 2, 3, 4
EXIT_OF_STATE = {
    "finished": EXIT_FINISHED,
    "failed": EXIT_FAILED,
    "stopped": EXIT_STOPPED,
    "paused": EXIT_PAUSED,
}

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def number_encode(value: float) -> float | str:
    """A number as it travels: non-finite ones become strings."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def number_decode(value: Any) -> float:
    """A number as it arrived. Raises ValueError for anything that is not one."""
    if isinstance(value, str):
        if value not in _NON_FINITE:
            raise ValueError(f"{value!r} is not a number")
        return _NON_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def encode(event: dict[str, Any]) -> str:
    """One line of JSON, without the line end; non-finite numbers anywhere in it become strings."""
    try:
        return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(
            _finite(event), ensure_ascii=False, separators=(",", ":"), allow_nan=False
        )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return number_encode(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
