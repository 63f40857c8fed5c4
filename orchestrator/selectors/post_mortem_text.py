"""The post-mortem in words: one sentence, what to do, and the whole as Markdown for an issue report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.selectors.metric_signals import RULE
from orchestrator.selectors.run_advice import cause_advice
from orchestrator.selectors.truth_verdict import span

if TYPE_CHECKING:
    from datetime import datetime

HELP: dict[str, str] = {
    "attempt": "The number of the attempt that this is about.",
    "attempts": "How many attempts the run has had.",
    "others": "Other attempts of the run that have a post-mortem.",
    "state": "ended, or lost or stalled at this moment.",
    "cause": "The code of the cause: oom, nan, disk, crash, killed, bad-input, gpu-busy, node-lost, fenced, "
    "stall or one of a newer version; empty while the attempt has not ended.",
    "cause_words": "The cause in a few words.",
    "words": "What happened, in one sentence or two.",
    "message": "What the trainer, its host or the server said about the end.",
    "said_by": "Who said how it ended: the trainer itself, its host for it, or the server, which gave it up.",
    "ended": "When it ended, by the server's clock as far as the difference to the node's is known.",
    "exit_code": "The trainer's exit code as its host saw it; negative for a signal, null where nobody saw it.",
    "signal": "The name of the signal that ended the trainer, or empty.",
    "node": "The machine that it ran on.",
    "last_heard": "When anything of the attempt was heard last, by the server's clock.",
    "outcome": "What was made of the end: ended, restarted, rolled-back, waits, retried (by a person) or open; "
    "the next attempt, the step that was rolled back to, and the words of the restart policy.",
    "healthy": "The last healthy step: the last one that was logged, with loss and gradient norm that are "
    "numbers, before the first error or unusual metric among the signals. The machine's load, "
    "warnings, pauses and stalls say nothing about the weights and do not move it.",
    "checkpoint": "The newest checkpoint at or before that step that was there when the attempt ended. "
    "Lost are the steps after it, and the time that they took in this attempt.",
    "first": "The earliest signal; null says that none was seen. It is the first thing that was not as it "
    "should be, which need not be the cause.",
    "signals": "The signals after the first one, oldest first, at most 20; signals_more counts the rest. Looked "
    "at are the last 15 minutes before the end, or the last 50 steps where these took longer: alerts "
    "of level warning or error that tell of trouble, the attempt's last 5,000 log lines (tracebacks; "
    "errors of CUDA and NCCL; memory, disk, crashed and killed processes), the machine's readings "
    "(RAM from 95 %, GPU memory that rose to 98 %, 90 °C, a busy GPU at idle power), pauses of eight "
    "usual steps and half a minute, and silence. A loss or gradient norm that is no number counts "
    "whenever it came, another metric when it was a number before and is none since then or within "
    "that time."
    f" {RULE}",
    "looked_since": "From when on signals were looked for.",
    "log": "The attempt's last 40 lines; from host's last word while they have not arrived (log_from: host).",
    "stall": "What host saw of a stall that lasts: phase, silence, expectation, GPUs, processes and their "
    "stacks.",
    "advice": "What to change.",
    "link": "The page.",
    "markdown": "The same as text, for an issue report.",
}

TIPS: dict[str, tuple[str, ...]] = {
    "healthy": (
        "The last step that was logged, with loss and gradient norm that are numbers, before the first error or "
        "unusual metric among the signals.",
        "The checkpoint is the newest one at or before it that was there when the attempt ended.",
    ),
    "first": (
        "The first thing that was not as it should be. It need not be the cause.",
        "Looked at: alerts that tell of trouble, the last 5,000 log lines, the machine's readings, pauses and "
        "silence, in the last 15 minutes before the end or, where these took longer, the last 50 steps.",
        "A loss or gradient norm that is no number counts whenever it came; another metric where it was a number "
        "before.",
        RULE,
    ),
    "outcome": (
        "What the restart policy or a person made of the end, with the reason that was noted then.",
    ),
}
"""What the page says beside its headings."""

_OF_SIGNAL = {
    "ram-full": "The machine's RAM was nearly full: ask for another node by resources.labels, or lower "
    "batch.tokens_per_microbatch, data.max_tokens or the runs beside it.",
    "disk-full": "The machine's disk was nearly full: free space there, or lower checkpoint.keep_last.",
    "memory": "The log speaks of memory: lower batch.tokens_per_microbatch, which never changes the gradient.",
    "disk": "The log speaks of a full disk: free space on the node, or lower checkpoint.keep_last.",
    "nccl": "The log speaks of trouble between GPUs: a log rule with exclude-node lets it go on elsewhere.",
    "cuda": "The log speaks of an error of the GPU: if it comes again on this node, let a log rule with "
    "exclude-node rule it out.",
    "unusual": "The metrics were unusual before: look at the answers and the data of those steps, and lower "
    "optimizer.lr or max_grad_norm.",
}
_OF_STATE = {
    "lost": "It is given up and goes back to the queue by itself when its node stays silent. Look on the Nodes "
    "page whether others of that machine are silent too.",
    "stalled": "The stacks say where it stands: a lock, a collective that one process never joined, a source of "
    "data that does not answer. Stop it, or let its restart policy act on stalls.",
}
"""While an attempt has not ended."""
_ALREADY = {
    "oom": {"ram-full", "memory", "vram-full"},
    "disk": {"disk", "disk-full"},
    "nan": {"unusual"},
}
"""Signals whose advice the cause's own says already."""
ADVICE_MOST = 2


def sentence(found: dict[str, Any]) -> str:
    """What happened."""
    where = f" on {found['node']}" if found["node"] else ""
    after = _after(found["healthy"])
    if found["state"] == "lost":
        silence = f" since {_clock(found['last_heard'])}" if found["last_heard"] else ""
        return f"Nothing has been heard of attempt {found['attempt']}{where}{silence}{after}."
    if found["state"] == "stalled":
        return f"Attempt {found['attempt']}{where} stands still{after}."
    when = f" at {_clock(found['ended'])}" if found["ended"] else ""
    exit_words = f" ({found['exit_words']})" if found["exit_words"] else ""
    return (
        f"Attempt {found['attempt']}{where} ended{when}{after}: {found['cause_words']}{exit_words}."
    )


def what_to_do(found: dict[str, Any]) -> list[str]:
    """One or two sentences on what to change: by the cause, and by what was seen before it."""
    cause = found["cause"]
    of_cause = _OF_STATE.get(found["state"]) or cause_advice(cause)
    told = [of_cause] if of_cause else []
    seen = [found["first"], *found["signals"]] if found["first"] else []
    skip = _ALREADY.get(cause, set())
    for code in dict.fromkeys(one["code"] for one in seen):
        if code in _OF_SIGNAL and code not in skip and len(told) < ADVICE_MOST:
            told.append(_OF_SIGNAL[code])
    return told


def healthy_words(healthy: dict[str, Any]) -> str:
    """The last healthy step in words."""
    if healthy["step"] is not None:
        return f"step {healthy['step']}" + (" of the warm-up" if healthy["warm_up"] else "")
    if healthy["last_step"] is not None:
        return "none of this attempt's steps"
    began = healthy["began_at"]
    return "it logged no step" + (f" (it went on from step {began})" if began else "")


def lost_words(healthy: dict[str, Any], state: str = "ended") -> str:
    """The checkpoint that is left, and the work that is lost or would be, in words."""
    saved, lost = healthy["checkpoint"], healthy["lost_steps"]
    if healthy["warm_up"]:
        return "The warm-up keeps checkpoints of its own; the run itself had saved none."
    one = lost == 1
    steps = f"{lost} step{'' if one else 's'}"
    gone = ("is" if one else "are") + (" lost" if state == "ended" else " not saved")
    seconds = healthy["lost_seconds"]
    took = "" if seconds is None or not lost else f", {span(seconds)} of work"
    if saved is None:
        return (
            f"No checkpoint lies before it: {steps} {gone}{took}." if lost else "Nothing was saved."
        )
    kept = "" if saved["kept"] else ", removed since then"
    again = ", saved again by a later attempt" if saved["saved_again"] else ""
    behind = f"{steps} behind it {gone}{took}" if lost else "nothing was done behind it"
    return f"Checkpoint at step {saved['step']}{again}{kept}: {behind}."


def markdown(found: dict[str, Any]) -> str:
    """The whole post-mortem as Markdown."""
    outcome, first = found["outcome"], found["first"]
    parts = [
        f"## Post-mortem: {_plain(found['run_name'])}, attempt {found['attempt']} of {found['attempts']}",
        "",
        found["words"],
        "",
        f"- Run: `{found['run']}`",
        f"- Cause: `{found['cause'] or found['state']}`"
        + (f", {found['exit_words']}" if found["exit_words"] else "")
        + (f", said by {found['said_by']}" if found["said_by"] else ""),
        f"- Message: {_plain(found['message']) or 'none'}",
        f"- What was made of it: {outcome['words']} {_plain(outcome['why'])}".rstrip(),
        f"- Last healthy: {healthy_words(found['healthy'])}. {lost_words(found['healthy'], found['state'])}",
        f"- First bad signal: {_signal_line(first) if first else 'none was seen'}",
        *(f"- Then: {_signal_line(one)}" for one in found["signals"]),
        *(f"- Advice: {one}" for one in found["advice"]),
    ]
    if found["stall"] is not None:
        for stack in found["stall"]["stacks"]:
            parts += ["", f"Stack {stack['title']}".rstrip(), *_fenced(stack["text"].splitlines())]
    if found["log"]:
        parts += ["", "Last log lines:", *_fenced([line["text"] for line in found["log"]])]
    return "\n".join(parts) + "\n"


def _fenced(lines: list[str]) -> list[str]:
    """Lines as a block of code, behind a fence that none of them closes."""
    longest = max((len(line) - len(line.lstrip("`")) for line in map(str.strip, lines)), default=0)
    fence = "`" * max(3, longest + 1)
    return ["", f"{fence}text", *lines, fence]


def _signal_line(signal: dict[str, Any]) -> str:
    step = f", step {signal['step']}" if signal["step"] is not None else ""
    return f"{_clock(signal['time'])}{step}: {_plain(signal['title'])}. {_plain(signal['text'])}".strip()


def _after(healthy: dict[str, Any]) -> str:
    if healthy["last_step"] is None:
        return " before its first step" if not healthy["began_at"] else " before it had done a step"
    return f" after step {healthy['last_step']}" + (" of its warm-up" if healthy["warm_up"] else "")


def _plain(text: str) -> str:
    """One line, without marks that Markdown would take for its own."""
    return " ".join(text.split()).replace("<", "&lt;")


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"
