"""The version of this program: the newest heading of CHANGELOG.md, so that the two cannot disagree."""

from __future__ import annotations

import re
from functools import cache

from orchestrator.data_dir import PROJECT_DIR

HEADING = re.compile(r"^## \[?(\d+\.\d+\.\d+[^\]\s]*)", re.MULTILINE)


@cache
def version() -> str:
    """The version, such as "0.1.0"; "0.0.0" before the first one is named."""
    try:
        found = HEADING.search((PROJECT_DIR / "CHANGELOG.md").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "0.0.0"
    return found[1] if found else "0.0.0"
