"""What this version can start for one run; what asks for more waits, and is told so before its launch."""

from __future__ import annotations

PROCESSES_MOST = 16
"""Training processes that a node starts for one run: one for each of its GPUs, or as many as the spec asks for on
a CPU."""
