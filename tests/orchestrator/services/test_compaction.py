"""Packing moves points from chunks into blocks, whole or not at all."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from orchestrator import blocks
from orchestrator.models import Block, Chunk, Run, Series, State, Stream
from orchestrator.services import compaction
from orchestrator.services.compaction import Packed, pack, pack_due
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.telemetry import lines, metrics, push, stored_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db


def counts(run: Run, key: str = "loss") -> list[int]:
    """Points of each block of a metric, in order."""
    found = Block.objects.filter(series__run=run, series__key=key)
    return list(found.order_by("attempt", "start").values_list("count", flat=True))


def test_chunks_become_blocks_of_each_metric(run: Run) -> None:
    push(run, [metrics(n, 10 * n, loss=n, reward=-n) for n in range(1, 4)])
    push(run, [metrics(4, 40, loss="NaN")])
    assert pack(run_id=run.pk, attempt=1) == Packed(chunks=2, points=7)
    assert not Chunk.objects.exists()
    loss = Block.objects.get(series__key="loss")
    assert (loss.start, loss.count, loss.first, loss.last) == (0, 4, 1, 4)
    assert (loss.step_low, loss.step_high, loss.rising, loss.missing) == (10, 40, True, 1)
    assert loss.time_low == loss.time_high - 3
    assert Block.objects.get(series__key="reward").count == 3
    assert Stream.objects.get(source="trainer").packed == 4
    assert pack(run_id=run.pk, attempt=1) == Packed()


def test_small_blocks_join_and_full_ones_stay(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 16)
    first = 1
    sizes = []
    for size in (4, 2, 3, 9, 30, 1):
        push(run, lines(first, first + size - 1))
        first += size
        pack(run_id=run.pk, attempt=1)
        sizes.append(counts(run))
    # A block joins what comes behind it when it is at most as large.
    assert sizes == [[4], [4, 2], [9], [16, 2], [16, 16, 16], [16, 16, 16, 1]]
    assert stored_steps(run) == list(range(1, first))


def test_a_failure_leaves_the_chunks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the power went")

    push(run, lines(1, 5))
    monkeypatch.setattr(compaction, "_blocks_write", fail)
    with pytest.raises(RuntimeError):
        pack(run_id=run.pk, attempt=1)
    assert Chunk.objects.count() == 1
    assert Stream.objects.get(source="trainer").packed == 0


def test_a_live_attempt_is_packed_once_enough_has_come(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "CHUNKS_DUE", 3)
    push(run, lines(1, 2))
    push(run, lines(3, 4))
    assert pack_due() == Packed()
    push(run, lines(5, 6))
    assert pack_due() == Packed(3, 6)
    monkeypatch.setattr(compaction, "POINTS_DUE", 10)
    push(run, lines(7, 15))
    assert pack_due() == Packed()
    push(run, lines(16, 16))
    assert pack_due() == Packed(2, 10)


@pytest.mark.parametrize("fact", ["ended", "complete", "superseded"])
def test_what_no_longer_grows_is_packed_at_once(run: Run, fact: str) -> None:
    push(run, lines(1, 2))
    if fact == "superseded":
        attempt_add(run, 2)
    else:
        words = {"state": State.FAILED} if fact == "ended" else {"complete": True}
        Run.objects.filter(pk=run.pk).update(**words)
    assert pack_due() == Packed(1, 2)


def test_a_round_ends_after_enough_points(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "TAKE", compaction.TAKE.replace(str(1 << 18), "10"))
    Run.objects.filter(pk=run.pk).update(complete=True)
    for first in range(1, 61, 6):
        push(run, lines(first, first + 5))
    assert pack_due(most=20) == Packed(4, 24)
    assert pack_due() == Packed(6, 36)
    assert stored_steps(run) == list(range(1, 61))


@pytest.mark.django_db(transaction=True)
def test_many_packers_pushes_and_readers_at_once_lose_nothing(run: Run) -> None:
    """Real connections: whatever a reader sees is a beginning of what was pushed."""
    failures: list[BaseException] = []
    over = threading.Event()

    def work(steps: Iterator[Any]) -> None:
        try:
            for _ in steps:
                pass
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    def pushing() -> Iterator[None]:
        for first in range(1, 601, 3):
            push(run, lines(first, first + 2))
            yield
        over.set()

    def packing() -> Iterator[None]:
        while not over.is_set():
            pack(run_id=run.pk, attempt=1)
            yield

    def reading() -> Iterator[None]:
        while not over.is_set():
            seen = stored_steps(run)
            assert seen == list(range(1, len(seen) + 1))
            yield

    steps = [pushing(), packing(), packing(), reading(), reading()]
    threads = [threading.Thread(target=work, args=[step]) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert stored_steps(run) == list(range(1, 601))


def test_deleting_a_run_takes_its_points(run: Run) -> None:
    push(run, lines(1, 5))
    pack(run_id=run.pk, attempt=1)
    push(run, lines(6, 7))
    run.delete()
    assert not (Chunk.objects.exists() or Block.objects.exists() or Series.objects.exists())
