"""The keeper of the store: sees whether it works, takes up what nodes say, and outlives whatever fails."""

from __future__ import annotations

import queue
import shutil
import threading
import time

import pytest
from django.conf import settings as now

from orchestrator.artifacts.store import Store, StoreError
from orchestrator.selectors.artifacts import SEEN_WITHIN, state_path, store_state
from orchestrator.services import store_copies, store_keeper


@pytest.fixture
def store(settings, tmp_path, db):
    settings.ANNEAL_ARTIFACTS_URL = (tmp_path / "shared").as_uri()
    yield Store(settings.ANNEAL_ARTIFACTS_URL)
    shutil.rmtree(now.ANNEAL_DATA_DIR / "artifacts", ignore_errors=True)


def test_it_says_what_it_sees_and_for_how_long(store, tmp_path, monkeypatch):
    assert "has not looked at it yet" in store_state().state
    assert store_keeper.look(store) is False
    assert "mount the folder" in store_state().state and not store_state().works
    (tmp_path / "shared").mkdir()
    assert store_keeper.look(store) is True
    assert store_state().works and store_state().url == store.url
    later = time.time() + SEEN_WITHIN + 1
    monkeypatch.setattr("orchestrator.selectors.artifacts.time.time", lambda: later)
    assert "has not looked at it lately" in store_state().state


def test_another_store_than_the_one_that_was_seen_is_not_said_to_work(store, settings, tmp_path):
    (tmp_path / "shared").mkdir()
    store_keeper.look(store)
    settings.ANNEAL_ARTIFACTS_URL = "file:///elsewhere"
    assert not store_state().works


def test_without_a_store_there_is_nothing_to_keep(settings):
    assert store_keeper.keeper_start(threading.Event()) is None and store_state() is None


def test_a_store_that_fails_while_a_checkpoint_is_looked_for_is_noted(store, monkeypatch):
    def fails(*_):
        raise StoreError("unreachable", "ANNEAL_ARTIFACTS_URL: away")

    monkeypatch.setattr(store_copies, "copy_confirm", fails)
    store_keeper.confirm(store, "c" * 12, "a" * 64)
    assert store_state().state == "ANNEAL_ARTIFACTS_URL: away"


def test_what_nodes_say_is_taken_up_between_the_looks(store, monkeypatch):
    seen: list[object] = []
    ending = threading.Event()
    # Whatever other tests have left in it stays out of this one.
    monkeypatch.setattr(store_keeper, "_sent", queue.SimpleQueue())

    def look(_):
        seen.append("look")
        if seen.count("look") == 2:
            ending.set()
            store_keeper.sent_note("", "")
        return True

    monkeypatch.setattr(store_keeper, "look", look)
    monkeypatch.setattr(store_keeper, "confirm", lambda _, *words: seen.append(words))
    store_keeper.sent_note("c1", "a")
    store_keeper.sent_note("c2", "b")
    store_keeper.look_soon()
    thread = store_keeper.keeper_start(ending)
    thread.join(10)
    assert not thread.is_alive()
    assert seen == ["look", ("c1", "a"), ("c2", "b"), "look", ("", "")]
    assert state_path().parent == now.ANNEAL_DATA_DIR / "artifacts"
