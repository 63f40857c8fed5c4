"""How a run can end before its last step, and which cause each way has. No torch in here."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from trainer.events import (
    EXIT_INVALID,
    EXIT_OF_STATE,
    Cause,
    TrainerState,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class Halt(Exception):
    """Somebody wants the run to stop or to pause. Raised only where nothing was changed since the last step."""

    def __init__(self, state: TrainerState, cause: str, message: str) -> None:
        super().__init__(message)
        self.state = state
        self.cause = cause if cause in get_args(Cause) else "user"
        self.message = message


class Failure(Exception):
    """The run cannot go on; `cause` and the message say why and what to change."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class Verdict:
    """The end of an attempt."""

    state: TrainerState
    cause: str
    message: str

    @property
    def exit_code(self) -> int:
        """The exit code of the process."""
        return EXIT_INVALID if self.cause == "bad-input" else EXIT_OF_STATE[self.state]


@contextmanager
def bad_input() -> Iterator[None]:
    """What goes wrong in here is the user's to change: data, columns, model names."""
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Failure("bad-input", str(error)) from error


def verdict_of(error: BaseException) -> Verdict:
    """State, cause and one clear sentence for whatever ended the run."""
    if isinstance(error, Halt):
        return Verdict(error.state, error.cause, error.message)
    if isinstance(error, Failure):
        return Verdict("failed", error.cause, str(error))
    if isinstance(error, KeyboardInterrupt):
        return Verdict("stopped", "user", "interrupted at once; the newest checkpoint stands")
    if _is_disk_full(error):
        name = getattr(error, "filename", None)
        where = f" while writing {name}" if name else ""
        return Verdict("failed", "disk", f"the disk is full{where}; free space, then resume")
    if _is_out_of_memory(error):
        return Verdict(
            "failed",
            "oom",
            "out of memory; lower batch.tokens_per_microbatch, rollout.group_size or "
            f"rollout.max_new_tokens, or take a smaller model ({_first_line(error)})",
        )
    return Verdict("failed", "crash", f"{type(error).__name__}: {_first_line(error)}")


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    # safetensors has errors of its own.
    return "No space left on device" in str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:300]
