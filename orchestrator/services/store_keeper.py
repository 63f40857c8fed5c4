"""The thread of the control worker that looks after the artifact store, while everything else goes on."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections

from orchestrator.artifacts.store import StoreError, store_at
from orchestrator.data_dir import private_write
from orchestrator.selectors.artifacts import state_path
from orchestrator.services import store_copies

if TYPE_CHECKING:
    from orchestrator.artifacts.store import Store

log = logging.getLogger(__name__)

PROBE_EVERY, PROBE_AGAIN = 60.0, 10.0
"""Seconds between two looks at a store that works, and at one that does not."""

_sent: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
"""Checkpoint and hash of its manifest; None to look after the store now."""


def sent_note(checkpoint_id: str, sha256: str) -> None:
    """Have a checkpoint looked for in the store. May be lost: its node says so again."""
    _sent.put((checkpoint_id, sha256))


def look_soon() -> None:
    """Have the store looked after now rather than in a minute."""
    _sent.put(None)


def keeper_start(ending: threading.Event) -> threading.Thread | None:
    """Look after the store beside everything else until `ending`; None when there is none."""
    if not settings.ANNEAL_ARTIFACTS_URL:
        return None
    store = store_at(settings.ANNEAL_ARTIFACTS_URL)
    thread = threading.Thread(target=_work, args=(store, ending), name="store-keeper", daemon=True)
    thread.start()
    return thread


def _work(store: Store, ending: threading.Event) -> None:
    due = 0.0
    while not ending.is_set():
        close_old_connections()
        if time.monotonic() >= due:
            due = time.monotonic() + (PROBE_EVERY if look(store) else PROBE_AGAIN)
        with contextlib.suppress(queue.Empty):
            item = _sent.get(timeout=max(0.0, due - time.monotonic()))
            if item is None:
                due = 0.0
            else:
                confirm(store, *item)


def confirm(store: Store, checkpoint_id: str, sha256: str) -> None:
    """Let what a node has sent count; what fails is said again by the node."""
    try:
        store_copies.copy_confirm(store, checkpoint_id, sha256)
    except StoreError as error:
        log.warning("%s", error)
        state_write(store, str(error))
    except (DatabaseError, InterfaceError) as error:
        log.warning("the checkpoint %s is looked for later: %s", checkpoint_id, error)
    except Exception:
        # The next ones must count all the same.
        log.exception("looking for the checkpoint %s", checkpoint_id)


def look(store: Store) -> bool:
    """See whether the store works, note it for people, and free what is to go; whether it works."""
    try:
        store.probe()
        store_copies.leaving_free(store)
        store_copies.deleted_free(store)
        store_copies.copies_forward(store)
    except StoreError as error:
        log.warning("%s", error)
        state_write(store, str(error))
        return False
    except Exception:
        # The next look must come all the same.
        log.exception("looking after %s", store.url)
        return False
    state_write(store, "ok")
    return True


def state_write(store: Store, state: str) -> None:
    """Note what the store's state is: "ok" or a sentence."""
    private_write(state_path(), json.dumps({"url": store.url, "state": state, "seen": time.time()}))
