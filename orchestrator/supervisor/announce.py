"""Tell the person who started Anneal where it is and how to get in."""

from __future__ import annotations

import os
import sys
import webbrowser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.supervisor.parts import Wanted


def announce(wanted: Wanted, link: str) -> None:
    """Print one calm block."""
    lines = ["", f"Anneal is up at {wanted.url}/"]
    if link:
        lines += [f"  Sign in  {link}", "           (works once, within 15 minutes)"]
    lines += [
        f"  Data     {wanted.data_dir}",
        "  Stop     Ctrl-C; runs save a checkpoint and continue at the next start",
        "",
    ]
    print("\n".join(lines), flush=True)


def browser_open(url: str) -> None:
    """Open a browser where a person would see it: not from a script, a container or over ssh."""
    has_display = sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if sys.stdout.isatty() and has_display and "SSH_CONNECTION" not in os.environ:
        webbrowser.open(url)
