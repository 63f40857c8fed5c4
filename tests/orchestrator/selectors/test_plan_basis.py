"""An estimate rests on the trainer's start and on earlier runs of the same size, kind of node and method alone."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from orchestrator.models import Attempt, Node, Run
from orchestrator.selectors.plan_basis import estimates_of, likeness, starts_of
from orchestrator.services.tokens import digest_of
from tests.orchestrator.planned import GRPO, earlier_run, load_line, planned
from tests.orchestrator.telemetry import push, spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.models import User

pytestmark = pytest.mark.django_db


@pytest.fixture
def earlier(ada: User, node: Node) -> Callable[..., Run]:
    """Make a finished run with a plan: `earlier(("update", 2.0), hours=3)`."""
    node.inventory = {"cpus": 4}
    node.save()

    def make(*parts: tuple[str, float], hours: float = 2, **load: Any) -> Run:
        return earlier_run(ada, node, timezone.now() - timedelta(hours=hours), *parts, **load)

    return make


@pytest.fixture
def grpo(run: Run) -> Run:
    """The run under way, an hour old."""
    Run.objects.filter(pk=run.pk).update(spec=GRPO, started=timezone.now() - timedelta(hours=1))
    run.refresh_from_db()
    return run


def basis(run: Run) -> dict[str, str]:
    found = estimates_of(run, starts_of([run]).get(run.pk))
    return {phase: estimate.basis.partition(":")[0] for phase, estimate in found.items()}


def seconds(run: Run, phase: str) -> float:
    return estimates_of(run, starts_of([run]).get(run.pk))[phase].seconds


def test_without_a_start_there_is_no_estimate(grpo: Run) -> None:
    push(grpo, [spans(1, 1)])
    assert basis(grpo) == {}


def test_without_earlier_runs_it_is_arithmetic(grpo: Run) -> None:
    planned(grpo)
    assert basis(grpo) == {"update": "from arithmetic", "rollout": "from arithmetic"}


def test_a_trainer_that_measured_nothing_gets_no_arithmetic(grpo: Run) -> None:
    planned(grpo, speed=None)
    assert basis(grpo) == {}


def test_earlier_runs_of_the_same_kind_are_asked_first(
    grpo: Run, earlier: Callable[..., Run]
) -> None:
    for length in (1.0, 2.0, 6.0):
        earlier(("rollout", length), ("update", 0.5))
    planned(grpo)
    assert seconds(grpo, "rollout") == pytest.approx(2.0)
    assert seconds(grpo, "update") == pytest.approx(0.5)
    words = "from 3 earlier runs of this size on this kind of node"
    assert basis(grpo) == {"rollout": words, "update": words}


@pytest.mark.parametrize(
    "unlike",
    [
        {"parameters": 5_000_000},
        {"dtype": "bfloat16"},
        {"threads": 2},
        {"rollout_engine": "vllm"},
        {"device": "cuda:0"},
    ],
    ids=lambda unlike: next(iter(unlike)),
)
def test_a_run_of_another_kind_tells_nothing(
    grpo: Run, earlier: Callable[..., Run], unlike: dict[str, Any]
) -> None:
    earlier(("rollout", 1.0), ("update", 0.5), **unlike)
    planned(grpo)
    assert set(basis(grpo).values()) == {"from arithmetic"}


def test_neither_does_one_that_ended_later_or_on_another_machine_or_with_another_objective(
    grpo: Run, earlier: Callable[..., Run]
) -> None:
    earlier(("update", 0.5), hours=0.5)
    other = earlier(("update", 0.5))
    big = Node.objects.create(name="big", token_digest=digest_of("big"), inventory={"cpus": 64})
    Attempt.objects.filter(run=other).update(node=big)
    spec = {**GRPO, "objective": {"type": "rloo"}}
    Run.objects.filter(pk=earlier(("update", 0.5)).pk).update(spec=spec)
    planned(grpo)
    assert set(basis(grpo).values()) == {"from arithmetic"}


def test_an_estimate_stays_what_it_was_when_the_attempt_began(
    grpo: Run, earlier: Callable[..., Run]
) -> None:
    planned(grpo)
    before = seconds(grpo, "update")
    earlier(("update", 99.0), hours=5)
    assert seconds(grpo, "update") == before


def test_a_spec_of_another_version_has_no_estimate(grpo: Run) -> None:
    Run.objects.filter(pk=grpo.pk).update(spec={"objective": {"type": "gone"}})
    grpo.refresh_from_db()
    planned(grpo)
    assert basis(grpo) == {}


def test_gpus_are_alike_by_their_names() -> None:
    inventory = {"gpus": [{"index": 0, "name": "A"}, {"index": 1, "name": "B"}], "cpus": 8}
    told = starts_of([]) or None
    assert told is None
    from orchestrator.selectors.plan_basis import Start

    start = Start(1, load_line(device="cuda:0")["data"])
    machine = Node(inventory=inventory)
    assert likeness(start, machine, [0]) != likeness(start, machine, [1])
    assert likeness(start, machine, [0]) == likeness(
        start, Node(inventory={**inventory, "cpus": 2}), [0]
    )
