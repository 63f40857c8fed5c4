"""What to do about a run that failed or waits: one plain sentence per cause."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from orchestrator.models import State
from orchestrator.planner.limits import PROCESSES_MOST
from orchestrator.selectors.fitting import processes_wanted
from trainer.escalation import GRACE, TERM_GRACE

if TYPE_CHECKING:
    from orchestrator.models import Run

_OF_CAUSE = {
    "oom": "It ran out of memory. Lower batch.tokens_per_microbatch first: it changes memory and speed, "
    "never the gradient. Then rollout.group_size or data.max_tokens.",
    "nan": "The loss became not a number. The weights before that step are saved: lower optimizer.lr or "
    "max_grad_norm, or look at the last answers for a broken reward.",
    "disk": "The disk of its node is full. Free space there, or lower checkpoint.keep_last, then retry.",
    "crash": "The trainer stopped with an error; the last lines below say where. If it is a method of "
    "yours, fix its file and retry.",
    "stall": "Its trainer hung: it said nothing for far longer than that phase ever took, and its policy had it "
    "ended. The alert on the Events tab holds the stacks, which say where.",
    "killed": "The process was killed from outside, usually by the system for want of memory. Retry "
    "continues from the newest checkpoint.",
    "bad-input": "The spec or its data cannot run as they are. Change what the message names and launch "
    "again.",
    "gpu-busy": "A GPU that it was given stayed in use by an earlier attempt. Look on its node which process "
    "holds it, then retry.",
    "node-lost": "Its node stopped answering. It goes back to the queue by itself while restarts remain.",
    "fenced": "A newer attempt took over while this one still ran. Nothing of it counts since then.",
}

_CAUSE_WORDS = {
    "oom": "out of memory",
    "nan": "not a number",
    "disk": "disk full",
    "crash": "an error in the trainer",
    "stall": "its trainer hung",
    "killed": "killed from outside",
    "bad-input": "the spec or its data",
    "gpu-busy": "its GPU was still in use",
    "node-lost": "its node went away",
    "fenced": "a newer attempt took over",
}


def deadlines(run: Run) -> str:
    """When patience with a trainer that was asked to stop or pause ends, or ""."""
    if run.state not in (State.STOPPING, State.PAUSING) or run.desired_at is None:
        return ""
    term = run.desired_at + timedelta(seconds=max(GRACE, run.expect_next_in))
    kill = term + timedelta(seconds=TERM_GRACE)
    return (
        f"It saves a checkpoint at its next step. If it has not ended by {term:%H:%M:%S} UTC it gets SIGTERM, "
        f"at {kill:%H:%M:%S} SIGKILL for its whole process group."
    )


def _never_starts(run: Run) -> bool:
    """Whether it asks for more processes than a node starts for one run."""
    return processes_wanted(run.spec) > PROCESSES_MOST


def cause_words(run: Run) -> str:
    """The cause of its end in a few words."""
    return cause_name(run.cause)


def cause_name(cause: str) -> str:
    """A cause in a few words."""
    return _CAUSE_WORDS.get(cause, cause)


def cause_advice(cause: str) -> str:
    """What to do about a failure with this cause, or ""."""
    return _OF_CAUSE.get(cause, "")


def advice(run: Run) -> str:
    """The sentence for this run, or ""."""
    if run.state == State.QUEUED and run.waits_for_id:
        return "It starts by itself when the run before it has finished."
    if run.state == State.QUEUED and run.cause == "preempted":
        return (
            "It made way for a run of higher priority, and goes on from its checkpoint in its turn."
        )
    if run.state == State.QUEUED and run.cause == "store-away":
        return "It is tried again by itself, as often as it takes, and costs no restart."
    if run.state == State.QUEUED and _never_starts(run):
        return "It does not start by itself: cancel it, clone it, and lower what it asks for."
    if run.state == State.QUEUED:
        return "It starts by itself as soon as a node that fits has a free slot."
    if run.state == State.PAUSED:
        return "Its slot is free for others. Resume continues from the checkpoint, on any node."
    if run.state == State.DRAFT:
        return "It has not been launched yet."
    if run.state in (State.FAILED, State.LOST):
        return _OF_CAUSE.get(run.cause, _OF_CAUSE["crash"] if run.state == State.FAILED else "")
    return ""
