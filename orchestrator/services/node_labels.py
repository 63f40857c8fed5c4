"""Labels of nodes: words, or key=value, that runs ask for in resources.labels."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/=:-]{0,62}")
LABELS_MOST = 32


def labels_checked(labels: Iterable[str]) -> list[str]:
    """The labels in order, each once. Raises ValueError for one that could not be asked for."""
    found = sorted(set(labels))
    for label in found:
        if not LABEL.fullmatch(label):
            raise ValueError(
                f"labels: '{label[:70]}' has a character that labels do not have, or more than 63; use "
                "letters, digits and . _ / = : - as in 'h200' or 'room=lab-2'."
            )
    if len(found) > LABELS_MOST:
        raise ValueError(f"labels: {len(found)} are too many; {LABELS_MOST} is the most.")
    return found


def labels_joined(
    labels: Iterable[str], *, said_before: Iterable[str], said_now: Iterable[str]
) -> list[str]:
    """A node's labels after it joined with `said_now`: what only its command line had named goes.

    A key=value that is named now replaces other values of its key.
    """
    now = set(said_now)
    keys = {label.partition("=")[0] for label in now if "=" in label}
    kept = {
        label
        for label in set(labels) - set(said_before)
        if "=" not in label or label.partition("=")[0] not in keys
    }
    return labels_checked(kept | now)
