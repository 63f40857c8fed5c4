"""Takes an order: claim it, prepare it, start its host. Every way to lose the claim is quiet."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.node.courier import Courier
from orchestrator.node.gpus import gpus
from orchestrator.node.hosts import Hosts, host_start
from orchestrator.node.prepare import CannotPrepare, prepare
from orchestrator.node.server import Refused, Server, Unreachable

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


@dataclass
class ThisNode:
    """The node that this process is."""

    name: str
    server: Server
    data_dir: Path
    hosts: Hosts
    instance: str = ""
    preparing: set[tuple[str, int]] = field(default_factory=set)
    """Attempts that are claimed and whose host has not started yet: heartbeats vouch for them."""
    given: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    """GPUs of attempts whose lease is not written yet: no other order may get them meanwhile."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    courier: Courier = field(init=False)
    """Brings checkpoints to the server, beside everything else."""

    def __post_init__(self) -> None:
        self.courier = Courier(self.server, self.data_dir)


_this: list[ThisNode] = []


def node_be(node: ThisNode) -> None:
    """Become this node; orders that arrive from now on are its own."""
    _this[:] = [node]


def order_take(run_id: str, attempt: int) -> None:
    """Carry out one message."""
    if not _this:
        log.warning("no node in this process: the message for %s is left alone", run_id)
        return
    node = _this[0]
    try:
        order = node.server.post("/claims", {"run": run_id, "attempt": attempt})
    except Refused as refusal:
        log.info("claim of %s attempt %d lost: %s", run_id, attempt, refusal)
        return
    except Unreachable as error:
        # The message comes again while the run is still to be claimed.
        log.warning("claim of %s attempt %d: %s", run_id, attempt, error)
        return
    key = (run_id, attempt)
    node.preparing.add(key)
    try:
        _start(node, order)
    except CannotPrepare as error:
        _fail(node, key, "bad-input", str(error))
    except Exception as error:
        # Whatever it was: the claim is ours, so nobody else would ever report it.
        log.exception("cannot start %s attempt %d", run_id, attempt)
        _fail(node, key, "crash", f"{node.name} could not start the run: {error}")
    finally:
        node.preparing.discard(key)
        node.given.pop(key, None)


def _start(node: ThisNode, order: dict[str, Any]) -> None:
    given = _gpus_for(node, order)
    prepared = prepare(order, data_dir=node.data_dir, server=node.server, gpus=given or [])
    env = dict(os.environ)
    if given is not None:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, given))
        # The driver counts by the bus; CUDA would put the fastest first.
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    trainer = ["--", sys.executable, "-m", "trainer", *prepared.arguments]
    host = host_start(prepared.attempt, trainer, env)
    # Reaped when it ends before we do; it does not notice when we end first.
    threading.Thread(target=host.wait, daemon=True).start()
    log.info("started %s attempt %d (host %d)", order["run_id"], order["attempt"], host.pid)


def _gpus_for(node: ThisNode, order: dict[str, Any]) -> list[int] | None:
    """The GPUs that the run gets; [] hides all of them, None means that there are none to hide."""
    have = [gpu["index"] for gpu in gpus()]
    if not have:
        return None
    wanted = order["spec"].get("resources", {}).get("gpus", "auto")
    count = wanted if isinstance(wanted, int) else 1
    with node.lock:
        taken = node.hosts.gpus_taken().union(*node.given.values())
        free = [index for index in have if index not in taken]
        if count > len(free):
            raise CannotPrepare(f"{node.name} has {len(free)} free GPUs, {count} are needed.")
        node.given[order["run_id"], order["attempt"]] = free[:count]
    return free[:count]


def _fail(node: ThisNode, key: tuple[str, int], cause: str, message: str) -> None:
    body = {"run": key[0], "attempt": key[1], "cause": cause, "message": message[:4000]}
    try:
        node.server.post("/claims/fail", body)
    except (Refused, Unreachable) as error:
        # The lease runs out by itself.
        log.warning("could not report %s: %s", message, error)
