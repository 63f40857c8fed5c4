"""How each number of the truth panel is measured; pages and OpenAPI show the same words."""

from __future__ import annotations

from trainer.tempo import TEMPO

_LEASE, _GRACE, _BEAT = (f"{TEMPO.lease:g}", f"{TEMPO.grace:g}", f"{TEMPO.ship_beat:g}")

HELP: dict[str, str] = {
    "verdict_level": "good: all is here. live: it goes on. warning: look. none: nothing was sent yet.",
    "verdict_words": "Whether everything that was written has arrived, as far as the server can know.",
    "shown": "What people see: one pure function of desired state, process, contact and the cause of the "
    "end, computed at this moment.",
    "why": "The facts that give the shown state.",
    "reason": "What was last said about it: who asked, why it waits, what failed.",
    "desired": "What people want of the run: run, pause or stop.",
    "process": "Where the current attempt's process is, as far as the server was told: none, dispatched, "
    "claimed, alive or exited.",
    "contact": f"Whether ship, host or trainer spoke within the lease of {_LEASE} s and {_GRACE} s of grace, "
    "by the server's clock.",
    "phase": "What the trainer said it is doing; empty while it has not said.",
    "data": "Complete: ship counted every journal of the ended attempt and the server holds as many lines. "
    "Open: more may come.",
    "meanings": "What each of the five facts means at this moment, in words.",
    "last_contact": "When anything of the attempt (ship, host or trainer) was last heard, by the server's "
    "clock; it counts once a second.",
    "contact_until": "When the lease and its grace run out, unless something of the attempt is heard before.",
    "trainer_spoke": "When a line of the trainer's own journal was last stored, by the server's clock.",
    "promised_s": "Seconds within which the trainer promised to speak again, in its newest status, heartbeat "
    "or metrics.",
    "due": "When the promise runs out: the trainer's last stored line and the promised seconds after it.",
    "overdue_s": f"Seconds since the promise ran out; 0 while it is kept. {_GRACE} s more are granted before "
    "anybody is told.",
    "promise": "Whether the trainer keeps its promise. While ship is silent nobody can tell: it carries the "
    "trainer's words.",
    "ship_spoke": "When ship, which carries the journals to the server, sent its newest beat; it sends one "
    f"every {_BEAT} s.",
    "clock_offset_s": "How far the node's clock is ahead of the server's, from the beats of ship: four moments "
    "as in NTP, of the shortest of the last eight round trips. Negative: the node's clock is behind.",
    "clock_within_s": "By how much the difference of the clocks may be wrong: half of that round trip.",
    "clock_measured": "Whether ship has compared the clocks; an older ship does not.",
    "clock_correction_s": "Seconds that were added to each lag for the difference of the clocks.",
    "clock_words": "The difference of the clocks in words, and how the lags below were corrected for it.",
    "stored": "Sequence numbers received: lines 1 to this one are stored. The server takes a push only when "
    "it continues the stream, so there is no hole below this number.",
    "known": "The highest sequence number that the server has heard of: in a push, or in ship's count of the "
    "journal.",
    "missing": "Lines that exist, as far as the server knows, and are not stored. On their way while ship "
    f"speaks; not delivered once ship has been silent for {_GRACE} s: they are still in the journal at the node. "
    "What was written while ship is silent is not known here.",
    "missing_are": "What is known of missing lines: none; none known (while ship is silent); on their way; "
    "or not delivered.",
    "repeated_lines": "Duplicated: lines that came again after they were stored, mostly because an answer was "
    "lost. They were recognised and not stored again.",
    "repeated_pushes": "Pushes that began with a line that was stored before.",
    "early_lines": "Lines that came before the ones they follow, because a push in front of them was lost. "
    "They were not stored then, and were asked for again.",
    "early_pushes": "Pushes that began behind a gap.",
    "refused_pushes": "Pushes refused because an event in them was faulty.",
    "refused_why": "What the newest refusal said.",
    "pushes": "Pushes stored. Counts of pushes are written once a second: a web process that is killed "
    "forgets those of its last second, never data.",
    "received": "When a push of this journal was last stored, by the server's clock.",
    "lag_p50_s": "Transport lag, median: seconds from writing a line into the journal to having it stored, "
    "of the oldest line of each of the newest 256 pushes, corrected for the clocks.",
    "lag_p95_s": "Transport lag, 95th percentile of the same.",
    "lag_pushes": "How many pushes the lags are taken from.",
    "spool_lines": "Spool depth: lines of the journal at the node, as ship last counted them, that the server "
    f"had not acknowledged. Up to {_BEAT} s old, so a fast journal always shows a few.",
    "counted": "When ship last counted this journal; spool depth, lines and size are as of that moment.",
    "journal_lines": "Complete lines of the journal file at the node, as ship last counted them.",
    "journal_bytes": "Size of the journal file at the node. It is kept until the run is deleted.",
    "journal_whole": "Whether ship has counted the whole file; while it has not, lines are at least this many.",
}  # fmt: skip
