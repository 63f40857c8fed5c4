"""The node's process: join, beat, and work off the queue until told to end."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery.signals import worker_ready

from orchestrator.artifacts.store import store_at
from orchestrator.data_dir import alive_path
from orchestrator.node.address import CannotJoin, node_address
from orchestrator.node.hosts import Hosts
from orchestrator.node.inventory import inventory
from orchestrator.node.launch import ThisNode, node_be
from orchestrator.node.server import Refused, Server, Unreachable
from trainer.liveness import touch_always

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from celery import Celery

log = logging.getLogger(__name__)

JOIN_BACKOFF_MOST = 5.0
UNHANG_EVERY = 1.0
PROMISE_BEATS = 3
"""A node promises to speak within so many beats."""


def join(
    server: Server,
    *,
    name: str,
    slots: int | None,
    data_dir: Path,
    labels: Sequence[str] = (),
    artifacts: str = "",
    address: str = "",
) -> dict[str, Any]:
    """Join, waiting for a server that is not up yet. Raises CannotJoin."""
    body: dict[str, Any] = {"name": name, "slots": slots, "data_dir": str(data_dir)}
    body["labels"] = list(labels)
    if artifacts:
        body["artifacts"] = artifacts
    # Whoever shares the server's folder can prove it at once.
    body["proof"] = _content(data_dir / "broker" / "proof")
    pause = 0.2
    while True:
        try:
            told = {**inventory(data_dir), "address": address}
            return server.post("/nodes/join", {**body, "inventory": told})
        except Refused as refusal:
            proof = _proof(refusal)
            if not proof or body.get("proof") == proof:
                raise CannotJoin(str(refusal)) from refusal
            body["proof"] = proof
        except Unreachable as error:
            log.info("waiting for the server: %s", error)
            time.sleep(pause)
            pause = min(JOIN_BACKOFF_MOST, pause * 2)


def _proof(refusal: Refused) -> str:
    """What proves that we are on the server's machine: the content of a file that it names."""
    path = {name.lower(): value for name, value in refusal.headers.items()}.get("anneal-proof", "")
    return _content(Path(path)) if path else ""


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def work(
    server: Server,
    app: Celery,
    *,
    name: str,
    slots: int | None,
    data_dir: Path,
    labels: Sequence[str] = (),
    artifacts: str = "",
) -> None:
    """Be a node until a signal ends us; hosts that we started go on. `artifacts` is the shared store's URL.

    Raises CannotJoin.
    """
    address = node_address(server.url)
    data_dir.mkdir(parents=True, exist_ok=True)
    # Before it joins: waiting for a server is no standing still.
    touch_always(alive_path(data_dir, "node"))
    joined = join(
        server,
        name=name,
        slots=slots,
        data_dir=data_dir,
        labels=labels,
        artifacts=artifacts,
        address=address,
    )
    store = store_at(artifacts) if artifacts else None
    hosts = Hosts(data_dir)
    node = ThisNode(joined["name"], server, data_dir, hosts, joined["instance"], store, address)
    node_be(node)
    adopted = node.hosts.live()
    log.info("joined as %s with %d slots; %d live runs", node.name, joined["slots"], len(adopted))
    ending = threading.Event()
    beats = threading.Thread(
        target=_beat, args=(node, joined["heartbeat_seconds"], ending), daemon=True
    )
    beats.start()
    threading.Thread(target=_unhang, args=(node, ending), daemon=True).start()
    threading.Thread(target=node.courier.work, args=(ending,), daemon=True).start()
    node.fetched.shares_server = joined.get("local", True)
    threading.Thread(target=node.fetched.work, args=(ending,), daemon=True).start()
    _broker_use(app, joined["broker"])
    worker = app.Worker(
        hostname=f"node.{node.name}.{secrets.token_hex(3)}@%h",
        queues=[f"node.{node.name}"],
        pool="threads",
        concurrency=max(2, joined["slots"]),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="INFO",
    )
    worker_ready.connect(lambda **_: _leave_at_once(node), weak=False)
    try:
        worker.start()
    finally:
        ending.set()


def _leave_at_once(node: ThisNode) -> None:
    """End without Celery's farewell, which takes seconds, unless an order is being prepared.

    A message that this loses is sent again, and no process that we started notices.
    """
    warm = signal.getsignal(signal.SIGTERM)

    def leave(number: int, frame: FrameType | None) -> None:
        if not node.preparing:
            log.info("%s: leaving; the runs go on", signal.Signals(number).name)
            os._exit(0)
        if callable(warm):
            warm(number, frame)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def _broker_use(app: Celery, broker: dict[str, Any]) -> None:
    app.conf.broker_url = app.conf.broker_read_url = app.conf.broker_write_url = broker["url"]
    # Options of the kind of broker that our own settings name fit no other kind.
    app.conf.broker_transport_options = {}
    if folder := broker.get("folder"):
        messages = str(Path(folder) / "messages")
        app.conf.broker_transport_options = {
            "polling_interval": 0.1,
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": str(Path(folder) / "control"),
        }


def _beat(node: ThisNode, every: float, ending: threading.Event) -> None:
    """Speak every few seconds, tend the hosts, and end this process when the server says so."""
    while not ending.is_set():
        try:
            node.hosts.tend(node.server.socket_url)
            asked = time.monotonic()
            answer = node.server.post("/heartbeats", _sign_of_life(node, every))
            for stale in answer["fenced"]:
                node.preparing.fence((stale["run"], stale["attempt"]))
                node.hosts.fence(stale["run"], stale["attempt"])
            # Only now: whoever waits for this word must find what it brought.
            node.heard = asked
            for gone in answer.get("remove", []):
                _remove(node, gone)
            for gone in answer.get("drop", []):
                _drop(node, gone)
            node.courier.told(answer["bring"])
        except Unreachable as error:
            log.warning("no answer to the heartbeat: %s", error)
        except Refused as refusal:
            log.error("this node ends: %s", refusal)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        except Exception:
            # Heartbeats must outlive whatever goes wrong around one of them.
            log.exception("heartbeat")
        ending.wait(every)


def _unhang(node: ThisNode, ending: threading.Event) -> None:
    """Look after hosts that stand still, beside heartbeats, which may wait for a server for long."""
    while not ending.wait(UNHANG_EVERY):
        try:
            node.hosts.unhang()
        except Exception:
            # The next look must come all the same.
            log.exception("looking for hosts that hang")


def _remove(node: ThisNode, gone: dict[str, Any]) -> None:
    """Free what a deleted run takes up here, and say how much that was."""
    freed = node.hosts.remove(gone["run"], gone["checkpoints"])
    if freed is not None:
        node.server.post("/removals", {"run": gone["run"], "bytes": freed})


def _drop(node: ThisNode, gone: dict[str, Any]) -> None:
    """Free what a deleted checkpoint takes up here, and say how much that was."""
    with node.preparing.at_rest() as quiet:
        freed = node.hosts.drop(gone["run"], gone["path"], gone["sha256"]) if quiet else None
    if freed is not None:
        report = {"sha256": gone["sha256"], "bytes": freed}
        node.server.post(f"/checkpoints/{gone['checkpoint']}/dropped", report)


def _sign_of_life(node: ThisNode, every: float) -> dict[str, Any]:
    preparing = [{"run": run, "attempt": attempt} for run, attempt in node.preparing.attempts()]
    gpus_of = {**node.hosts.gpus_of(), **node.preparing.gpus_of()}
    return {
        "inventory": {**inventory(node.data_dir), "gpus_of": gpus_of, "address": node.address},
        "runs": [*node.hosts.live(), *preparing],
        "expect_next_in": PROMISE_BEATS * every,
        "instance": node.instance,
    }
