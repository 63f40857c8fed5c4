"""What people see of a run: one pure function of its facts."""

from __future__ import annotations

from orchestrator.models.run import Desired, Process, State

STATE_OF_CAUSE: dict[str, str] = {
    "finished": State.FINISHED,
    "budget": State.FINISHED,
    "user": State.STOPPED,
    "policy": State.STOPPED,
    "oom": State.FAILED,
    "nan": State.FAILED,
    "weight-sync": State.FAILED,
    "disk": State.FAILED,
    "crash": State.FAILED,
    "stall": State.FAILED,
    "killed": State.FAILED,
    "bad-input": State.FAILED,
    "gpu-busy": State.FAILED,
    "parent": State.FAILED,
    "paused": State.PAUSED,
    "node-lost": State.LOST,
    "preempted": State.QUEUED,
    "server-stopped": State.QUEUED,
    "store-away": State.QUEUED,
}
"""A cause gives the state; causes that a restart may cure are requeued before this is asked."""


def shown_state(*, desired: str, process: str, cause: str, in_contact: bool) -> str:
    """The state of a run from what is wanted, where its process is, how it ended, and contact.

    `in_contact` is False once the lease has run out: nothing that belongs to the run has spoken.
    """
    if process == Process.EXITED:
        return STATE_OF_CAUSE.get(cause, State.FAILED)
    if process in (Process.CLAIMED, Process.ALIVE) and not in_contact:
        return State.LOST
    if process == Process.ALIVE:
        return {
            Desired.RUN: State.RUNNING,
            Desired.PAUSE: State.PAUSING,
            Desired.STOP: State.STOPPING,
        }[Desired(desired)]
    if process == Process.CLAIMED:
        return {
            Desired.RUN: State.STARTING,
            Desired.PAUSE: State.PAUSING,
            Desired.STOP: State.STOPPING,
        }[Desired(desired)]
    return {
        Desired.RUN: State.QUEUED,
        Desired.PAUSE: State.PAUSED,
        Desired.STOP: State.STOPPED,
    }[Desired(desired)]
