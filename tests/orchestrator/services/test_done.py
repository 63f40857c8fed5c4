"""The data of an attempt is complete once every line of every journal is stored, and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.services.ingest import PushError, stream_done
from tests.orchestrator.telemetry import lines, push

if TYPE_CHECKING:
    from orchestrator.models import Run

pytestmark = pytest.mark.django_db


def test_done_waits_for_every_line(run: Run) -> None:
    push(run, lines(1, 3))
    counts = {"trainer": 4, "samples": 0, "host": 0}
    assert stream_done(run_id=run.pk, attempt=1, counts=counts) == {"trainer": 3}
    run.refresh_from_db()
    assert not run.complete
    push(run, lines(4, 4))
    assert stream_done(run_id=run.pk, attempt=1, counts=counts) == {}
    run.refresh_from_db()
    assert run.complete


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({}, "each of trainer"),
        ({"trainer": 3}, "each of trainer"),
        ({"trainer": 3, "samples": 0, "host": True}, "each of trainer"),
        ({"trainer": 3, "samples": 0, "host": 0, "diary": 0}, "each of trainer"),
        ({"trainer": 2, "samples": 0, "host": 0}, "counts says 2 of trainer; 3 are stored"),
    ],
)
def test_done_names_every_journal_and_no_fewer_lines_than_are_stored(
    run: Run, counts: dict[str, Any], sentence: str
) -> None:
    push(run, lines(1, 3))
    with pytest.raises(PushError, match=sentence):
        stream_done(run_id=run.pk, attempt=1, counts=counts)
    run.refresh_from_db()
    assert not run.complete
