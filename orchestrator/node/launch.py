"""Takes an order: claim it, prepare it, start its host. Every way to lose the claim is quiet."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.artifacts.store import StoreError
from orchestrator.node.courier import Courier
from orchestrator.node.fetched import Fetched
from orchestrator.node.hosts import Hosts, host_start, is_noted
from orchestrator.node.prepare import CannotPrepare, prepare
from orchestrator.node.preparing import Preparing
from orchestrator.node.server import Refused, Server, Unreachable
from orchestrator.planner.limits import PROCESSES_MOST
from trainer.gpus import gpus

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.artifacts.store import Store

log = logging.getLogger(__name__)

GPU_WITHIN = 60.0
"""Seconds that a GPU may take to be given back by an attempt that is over."""


NOTED_WITHIN = 15.0
"""Seconds within which a new host has noted itself; until then its GPUs count as those of a preparation."""
LOOK_EVERY = 0.2


class GpuBusy(Exception):
    """A GPU that the server gave is still in use; the text says which."""


class TakenForOver(Exception):
    """The server gave the run up while it was prepared here: it may be at work elsewhere by now."""


@dataclass
class ThisNode:
    """The node that this process is."""

    name: str
    server: Server
    data_dir: Path
    hosts: Hosts
    instance: str = ""
    store: Store | None = None
    """The artifact store, where checkpoints go instead of to the server."""
    address: str = ""
    """Under which other machines reach this one; "" where that is not known."""
    preparing: Preparing = field(default_factory=Preparing)
    heard: float = field(default_factory=time.monotonic)
    """When the server last answered a heartbeat, by the monotonic clock."""
    courier: Courier = field(init=False)
    """Brings checkpoints to the server, beside everything else."""
    fetched: Fetched = field(init=False)
    """What was brought here, and when it goes."""

    def __post_init__(self) -> None:
        self.courier = Courier(self.server, self.data_dir, self.store)
        self.fetched = Fetched(self.server, self.data_dir, self.hosts, self.preparing)


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
    node.preparing.begin(key)
    try:
        _start(node, order)
    except CannotPrepare as error:
        _fail(node, key, "bad-input", str(error))
    except GpuBusy as error:
        _fail(node, key, "gpu-busy", str(error))
    except TakenForOver:
        log.warning("%s attempt %d was taken for over while it was prepared", run_id, attempt)
    except Unreachable as error:
        # The run is not to blame: it goes on, here or elsewhere.
        _fail(
            node,
            key,
            "node-lost",
            f"{node.name} lost the server while it prepared the run: {error}.",
        )
    except StoreError as error:
        if not node.preparing.is_over(key):
            _fail(node, key, "store-away", f"{node.name} cannot fetch its checkpoint. {error}")
    except OSError as error:
        log.exception("cannot start %s attempt %d", run_id, attempt)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "its disk is full" if full else str(error)
        _fail(
            node, key, "disk" if full else "crash", f"{node.name} could not start the run: {why}."
        )
    except Exception as error:
        # Whatever it was: the claim is ours, so nobody else would ever report it.
        log.exception("cannot start %s attempt %d", run_id, attempt)
        _fail(node, key, "crash", f"{node.name} could not start the run: {error}")
    finally:
        node.preparing.end(key)


def _start(node: ThisNode, order: dict[str, Any]) -> None:
    key = (order["run_id"], order["attempt"])
    claimed = time.monotonic()
    given = _gpus_for(node, order)
    if order.get("gang") and not node.address:
        raise CannotPrepare(f"resources.nodes: {node.name} has no address for other machines.")
    prepared = prepare(
        order,
        data_dir=node.data_dir,
        server=node.server,
        gpus=given or [],
        store=node.store,
        is_over=lambda: node.preparing.is_over(key),
        address=node.address,
    )
    env = dict(os.environ)
    if given is not None:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, given))
        # The driver counts by the bus; CUDA would put the fastest first.
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    _still_ours(node, key, claimed, order["lease_seconds"])
    trainer = ["--", sys.executable, "-m", prepared.module, *prepared.arguments]
    host = host_start(prepared.attempt, trainer, env)
    # Reaped when it ends before we do; it does not notice when we end first.
    threading.Thread(target=host.wait, daemon=True).start()
    log.info("started %s attempt %d (host %d)", *key, host.pid)
    end = time.monotonic() + NOTED_WITHIN
    while time.monotonic() < end and host.poll() is None and not is_noted(prepared.attempt):
        time.sleep(LOOK_EVERY)


def _still_ours(node: ThisNode, key: tuple[str, int], claimed: float, lease: float) -> None:
    """Raise TakenForOver unless the run is ours, which nobody knows while the server is silent for a lease."""
    while time.monotonic() - max(node.heard, claimed) > lease and not node.preparing.is_over(key):
        time.sleep(LOOK_EVERY)
    if node.preparing.is_over(key):
        raise TakenForOver


def _gpus_for(node: ThisNode, order: dict[str, Any]) -> list[int] | None:
    """The GPUs that the server gave the run; [] hides all of them, None means that there are none to hide.

    Raises CannotPrepare when this machine cannot start what was ordered, GpuBusy when one stays taken.
    """
    if order["processes"] > PROCESSES_MOST:
        raise CannotPrepare(
            f"resources: {node.name} starts at most {PROCESSES_MOST} training processes for a run, and "
            f"{order['processes']} are ordered; ask for fewer gpus or processes."
        )
    have = {gpu["index"] for gpu in gpus()}
    given: list[int] = order["gpus"]
    if missing := sorted(set(given) - have):
        raise CannotPrepare(f"{node.name} was to use GPU {missing[0]}, and does not see it.")
    if not have:
        return None
    # A fenced attempt may still be saving on it: the server knows that it is over, the GPU does not.
    key = (order["run_id"], order["attempt"])
    deadline = time.monotonic() + GPU_WITHIN
    while busy := node.preparing.gpus_take(key, given, node.hosts.gpus_taken):
        if node.preparing.is_over(key):
            raise TakenForOver
        if time.monotonic() > deadline:
            raise GpuBusy(f"GPU {min(busy)} of {node.name} is still used by an earlier attempt.")
        time.sleep(0.5)
    return given


def _fail(node: ThisNode, key: tuple[str, int], cause: str, message: str) -> None:
    body = {"run": key[0], "attempt": key[1], "cause": cause, "message": message[:4000]}
    try:
        node.server.post("/claims/fail", body)
    except (Refused, Unreachable) as error:
        # The lease runs out by itself.
        log.warning("could not report %s: %s", message, error)
