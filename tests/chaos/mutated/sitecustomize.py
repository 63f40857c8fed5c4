"""Python imports this at its start when the folder is on the path: applies the mutant that a test chose."""

from __future__ import annotations

import os
from pathlib import Path

_chosen = Path(os.environ["ANNEAL_CHAOS_MUTANT"]).read_text().strip()
if _chosen:
    from tests.chaos import mutants

    mutants.apply(_chosen)
