"""Planted mutants: faults that the chaos tests must notice, written into modules as they are imported.

Only `mutated/sitecustomize.py` calls `apply`, in processes that a test started with that folder on
their path; the product knows nothing of it. A mutant whose text is not found stops the process: the code
was rewritten, and the mutant has to follow.

Not here, because they change nothing that anybody could see: an acknowledgement before the commit, and a
`ship` that goes on behind what it has sent. Whoever connects asks the server where it stands, a gap is
answered by the cursor, and `done` is counted by the server.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

HALFWAY = 0.25
"""Seconds between two commits that should be one: long enough to be killed in between."""

MUTANTS: dict[str, tuple[str, str, str]] = {
    "gap-ignored": (
        "orchestrator.services.ingest",
        "if first != stream.cursor + 1 or not count:",
        "if not count:",
    ),
    "repeat-stored": (
        "orchestrator.services.ingest",
        "if first != stream.cursor + 1 or not count:",
        "if first > stream.cursor + 1 or not count:",
    ),
    "cursor-outside-the-transaction": (
        "orchestrator.services.ingest",
        "        _rows_store(run_id, attempt, source, push)\n",
        "        from tests.chaos.mutants import cursor_first\n"
        "        cursor_first(stream, count)\n"
        "        _rows_store(run_id, attempt, source, push)\n",
    ),
    "packed-in-two-transactions": (
        "orchestrator.services.compaction",
        "        taken = by_series([",
        "        from tests.chaos.mutants import halfway\n"
        "        halfway(connection, 2.0)\n"
        "        taken = by_series([",
    ),
    "torn-line-taken": (
        "trainer.journal",
        'if not line.endswith(b"\\n"):\n                    break\n'
        "                lines.append(line[:-1].decode())",
        "if not line:\n                    break\n"
        '                lines.append(line.rstrip(b"\\n").decode(errors="replace"))',
    ),
    "torn-line-kept-at-reopen": (
        "trainer.journal",
        "        file.truncate(complete)\n",
        "",
    ),
    "left-before-the-answer": (
        "trainer.lane",
        "return not (self.in_flight or self.rewinding or self.waiting) and self.cursor == self.sent",
        "return not self.waiting",
    ),
    "older-attempt-wins": (
        "orchestrator.selectors.curves",
        'np.lexsort((points["number"], points["step"]))',
        'np.lexsort((-points["number"], points["step"]))',
    ),
}
"""By name: the module, a text of its source, and what stands there instead."""

STATES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "lease-never-expires": (
        (
            "orchestrator.models.contact",
            "return run.last_contact is None or now <= run.last_contact + LEASE + GRACE",
            "return True",
        ),
    ),
    "fence-ignored": (
        (
            "trainer.control",
            "            self._stamp = stamp\n",
            "            self._stamp = stamp\n"
            "            self._last = Control() if self._last.cause == 'fenced' else self._last\n",
        ),
    ),
    "killed-is-finished": (
        (
            "trainer.verdict",
            'return Verdict("failed", "killed", f"The trainer was killed ({name}).")',
            'return Verdict("finished", "finished", "all steps done")',
        ),
    ),
    "order-taken-twice": (
        (
            "orchestrator.services.claims",
            "            process=Process.DISPATCHED,\n",
            "            process__in=(Process.DISPATCHED, Process.CLAIMED, Process.ALIVE),\n",
        ),
        ("trainer.host", "fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass"),
    ),
    "lost-for-ever": (
        (
            "orchestrator.services.lost",
            "if now - silent_since > LEASE + GRACE + LOST_FOR:",
            "if False:",
        ),
    ),
    "lost-while-it-speaks": (
        (
            "orchestrator.services.outcomes",
            '    run_change(run, who="server", **facts)\n\n\ndef _record',
            "    run.save(update_fields=[])\n\n\ndef _record",
        ),
        (
            "orchestrator.services.nodes",
            "if mine.update(last_contact=timezone.now()):",
            "if mine.exists():",
        ),
    ),
}
"""Those of states, for scenarios: some break two lines, since one alone is made good by another."""


class Mutation(importlib.abc.MetaPathFinder):
    """Changes the source of one module on its way in."""

    def __init__(self, module: str, before: str, after: str) -> None:
        self.module, self.before, self.after = module, before, after

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None and spec.loader is not None
        source = spec.loader.get_source(fullname)  # type: ignore[attr-defined]
        if source.count(self.before) != 1:
            raise SystemExit(f"the mutant of {fullname} does not find its text")
        code = compile(source.replace(self.before, self.after), spec.origin or fullname, "exec")
        spec.loader.get_code = lambda _: code  # type: ignore[attr-defined]
        applied_path().touch()
        return spec


def apply(name: str) -> None:
    """Let this process run with the mutant."""
    for edit in STATES.get(name) or [MUTANTS[name]]:
        sys.meta_path.insert(0, Mutation(*edit))


def applied_path() -> Path:
    """A file that says that some process runs with the mutant."""
    return Path(os.environ["ANNEAL_CHAOS_MUTANT"]).with_suffix(".applied")


def cursor_first(stream: Any, count: int) -> None:
    """Commit the cursor alone, and leave the rows to a transaction of their own."""
    from django.db import connection

    type(stream).objects.filter(pk=stream.pk).update(cursor=stream.cursor + count)
    halfway(connection, HALFWAY)


def halfway(connection: Any, seconds: float) -> None:
    """Commit what was done so far, and stay away for a while."""
    connection.connection.commit()
    time.sleep(seconds)
