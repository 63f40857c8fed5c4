"""The courier: brings checkpoints to a real server, from where it stopped, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time

import pytest

from orchestrator.api import checkpoint_copies as copies_api
from orchestrator.artifacts.store import Store
from orchestrator.models import Checkpoint, Event, Node
from orchestrator.node import courier
from orchestrator.node.courier import Courier, Gone
from orchestrator.node.server import Refused, Server, Unreachable
from orchestrator.selectors.inputs import checkpoint_place
from orchestrator.services.checkpoint_copies import copies_remove, copies_wanted, copy_folder
from orchestrator.services.store_copies import copy_confirm
from tests.chaos.brokers import free_port

pytestmark = pytest.mark.django_db(transaction=True)

WEIGHTS = os.urandom(300_000)
FILES = {"model.safetensors": WEIGHTS, "trainer/state.json": b"{}", "empty.json": b""}


class Counting(Server):
    """A server whose pieces are counted; `breaks_at` cuts the road at a piece."""

    breaks_at = 0
    sent = 0

    def put(self, path, data, headers, timeout=None):
        Counting.sent += 1
        if Counting.sent == Counting.breaks_at:
            raise Unreachable("the road broke")
        return super().put(path, data, headers, timeout)


@pytest.fixture
def saved(run, tmp_path):
    """A checkpoint on the node's disk, as the server knows it."""
    Node.objects.update(local=False)
    folder = tmp_path / "runs" / run.pk / "checkpoints" / "step-5"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    manifest = json.dumps({"files": hashes})
    (folder / "manifest.json").write_text(manifest)
    yield Checkpoint.objects.create(
        run=run,
        attempt=1,
        step=5,
        path="checkpoints/step-5",
        bytes=len(manifest) + sum(map(len, FILES.values())),
        sha256=hashlib.sha256(manifest.encode()).hexdigest(),
    )
    copies_remove(run.pk)


@pytest.fixture
def sender(live_server, tmp_path, monkeypatch):
    monkeypatch.setattr(courier, "PIECE", 100_000)
    Counting.sent = Counting.breaks_at = 0
    return Courier(Counting(live_server.url, "node-token"), tmp_path)


def arrived(saved: Checkpoint) -> dict[str, bytes]:
    folder = copy_folder(saved)
    return {name: (folder / name).read_bytes() for name in FILES}


def test_it_delivers_whole_and_leaves_nothing_in_the_outbox(saved, sender, tmp_path):
    sender.deliver(checkpoint_place(saved))
    assert arrived(saved) == FILES
    assert Counting.sent == 6  # the manifest, three pieces of weights, two small files
    assert list((tmp_path / "outbox").iterdir()) == []
    saved.refresh_from_db()
    assert saved.stored == saved.sha256
    sender.deliver(checkpoint_place(saved))
    assert Counting.sent == 6


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 6])
def test_after_a_break_only_the_rest_is_sent(saved, sender, live_server, tmp_path, piece):
    Counting.breaks_at = piece
    with pytest.raises(Unreachable):
        sender.deliver(checkpoint_place(saved))
    before = Counting.sent - 1
    # Another process: nothing is remembered but what lies on the disks.
    Courier(Counting(live_server.url, "node-token"), tmp_path).deliver(checkpoint_place(saved))
    assert arrived(saved) == FILES
    assert Counting.sent - 1 - before == 6 - before


def test_the_keep_policy_does_not_take_it_out_of_the_bag(saved, sender, tmp_path):
    Counting.breaks_at = 3
    with pytest.raises(Unreachable):
        sender.deliver(checkpoint_place(saved))
    shutil.rmtree(tmp_path / "runs")
    sender.deliver(checkpoint_place(saved))
    assert arrived(saved) == FILES


def test_a_disk_without_second_names_is_read_where_it_lies(saved, sender, monkeypatch):
    def refuse(*_):
        raise OSError("not supported")

    monkeypatch.setattr(courier.os, "link", refuse)
    sender.deliver(checkpoint_place(saved))
    assert arrived(saved) == FILES


def test_what_is_gone_is_said_to_be_gone(saved, sender, tmp_path):
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(Gone):
        sender.deliver(checkpoint_place(saved))
    sender._try(checkpoint_place(saved))
    saved.refresh_from_db()
    assert saved.deleted is not None and copies_wanted(Node.objects.get()) == []


def test_a_file_that_rotted_on_the_disk_never_counts(saved, sender, tmp_path):
    (tmp_path / "runs" / saved.run_id / saved.path / "model.safetensors").write_bytes(
        b"x" * 300_000
    )
    with pytest.raises(Refused, match="arrived with SHA-256"):
        sender.deliver(checkpoint_place(saved))
    saved.refresh_from_db()
    assert saved.stored == "" and not copy_folder(saved).exists()


def test_it_works_beside_everything_else_and_takes_failures_as_they_come(
    saved, sender, monkeypatch
):
    monkeypatch.setattr(courier, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(courier, "AGAIN_AFTER", 0.1)
    Counting.breaks_at = 3
    ending = threading.Event()
    thread = threading.Thread(target=sender.work, args=(ending,))
    thread.start()
    sender.told([checkpoint_place(saved)])
    deadline = time.monotonic() + 20
    while not Checkpoint.objects.filter(stored=saved.sha256) and time.monotonic() < deadline:
        time.sleep(0.05)
    ending.set()
    thread.join(10)
    assert arrived(saved) == FILES


@pytest.fixture
def stored_at(s3, settings, live_server, tmp_path):
    """A courier whose node and server share a store behind S3."""
    settings.ANNEAL_ARTIFACTS_URL = s3.bucket()
    Counting.sent = Counting.breaks_at = 0
    yield Courier(
        Counting(live_server.url, "node-token"), tmp_path, Store(settings.ANNEAL_ARTIFACTS_URL)
    )
    shutil.rmtree(settings.ANNEAL_DATA_DIR / "artifacts", ignore_errors=True)


def test_into_a_store_it_goes_without_passing_through_the_server(
    saved, stored_at, tmp_path, monkeypatch
):
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(copies_api, "sent_tell", lambda *words: told.append(words))
    place = checkpoint_place(saved)
    stored_at.deliver(place)
    assert Counting.sent == 0 and told == [(saved.pk, saved.sha256)]
    there = {name: stored_at.store.read(f"{place['key']}/{name}", 1 << 20) for name in FILES}
    assert there == FILES
    assert list((tmp_path / "outbox").iterdir()), "kept here until the server has seen it there"
    assert copy_confirm(stored_at.store, *told[0]) is True
    stored_at.deliver(place)
    assert list((tmp_path / "outbox").iterdir()) == []


@pytest.mark.slow
def test_while_the_store_is_away_it_stays_here_and_its_run_says_why(
    saved, s3_otherwise, stored_at, tmp_path, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    stored_at.store = Store(stored_at.store.url)
    place = checkpoint_place(saved)
    waits = []
    for _ in range(2):
        before = time.monotonic()
        stored_at._try(place)
        waits.append(round(stored_at._due(place) - time.monotonic(), -1))
        assert time.monotonic() - before < 30
    assert waits in ([10, 30], [20, 30]), "each failure doubles the wait"
    (alert,) = Event.objects.filter(data__code="artifacts")
    assert "ANNEAL_ARTIFACTS_URL" in alert.data["message"]
    assert "does not answer" in alert.data["message"] and alert.data["level"] == "warning"
    saved.refresh_from_db()
    assert saved.stored == "" and saved.deleted is None
    assert len(list((tmp_path / "outbox").glob("*/manifest.json"))) == 1
    stored_at.told([])
    assert stored_at._due(place) == 0.0 and list((tmp_path / "outbox").iterdir()) == []


def test_a_node_without_the_store_sends_to_the_server_which_passes_it_on(
    saved, stored_at, tmp_path
):
    store, stored_at.store = stored_at.store, None
    place = checkpoint_place(saved)
    stored_at.deliver(place)
    assert arrived(saved) == FILES and list((tmp_path / "outbox").iterdir()) == []
    assert copy_confirm(store, saved.pk, saved.sha256) is True
    assert {name: store.read(f"{place['key']}/{name}", 1 << 20) for name in FILES} == FILES
    assert list(copy_folder(saved).parent.iterdir()) == [], "the server's disk is free again"


def test_what_nobody_wants_any_more_leaves_the_outbox(saved, sender, tmp_path):
    sender._packed(checkpoint_place(saved))
    sender.told([checkpoint_place(saved)])
    assert len(list((tmp_path / "outbox").iterdir())) == 1
    sender.told([])
    assert list((tmp_path / "outbox").iterdir()) == []
