"""The same stack with a real Redis as its broker, which dies in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.brokers import Redis
from tests.chaos.stack import Stack
from tests.chaos.test_kills import finished, spec, trains

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow]


@pytest.fixture
def redis() -> Iterator[Redis]:
    server = Redis()
    server.start()
    yield server
    server.kill()


def test_orders_go_over_redis_and_its_loss_loses_no_run(redis: Redis) -> None:
    stack = Stack()
    stack.env["BROKER_URL"] = redis.url
    try:
        stack.up()
        first = stack.launch(spec(60))
        stack.wait(lambda: trains(stack, first), 60, "the first run does not train")
        redis.kill()
        # While the broker is away, training goes on, and what is launched waits.
        second: dict[str, Any] = stack.call("POST", "/runs", {"spec": spec(5)})
        redis.start()
        finished(stack, first)
        finished(stack, second["id"])
        assert not (stack.data / "broker" / "messages").exists(), "the filesystem broker was used"
    finally:
        stack.remove()
