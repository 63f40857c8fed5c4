"""Under which address the other machines of a run reach this one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trainer.gang import LOOPBACK, address_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "ANNEAL_NODE_ADDRESS"


class CannotJoin(Exception):
    """This machine cannot be a node as it is, or the server does not want it; the text says what to change."""


def node_address(server_url: str, environ: Mapping[str, str] = os.environ) -> str:
    """What ANNEAL_NODE_ADDRESS names; without it loopback beside the server, and else "": then this machine takes
    no part in runs on several.

    Raises CannotJoin for an address that is not this machine's own.
    """
    named = environ.get(VARIABLE, "").strip()
    if named:
        if problem := address_problem(named):
            raise CannotJoin(f"{VARIABLE}: {problem}.")
        return named
    local = urlsplit(server_url).hostname in ("localhost", "127.0.0.1", "::1")
    return LOOPBACK if local else ""
