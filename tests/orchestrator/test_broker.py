"""Messages on the filesystem broker appear whole, once, and in order."""

from __future__ import annotations

import os
import threading
from queue import Empty

import pytest
from kombu import Connection, Consumer, Exchange, Producer, Queue

from orchestrator.celery import app


@pytest.fixture
def queue(request) -> Queue:
    """A queue of this test alone: kombu remembers bindings for as long as the process lives."""
    name = f"node.{request.node.name}"
    return Queue(name, Exchange(name), routing_key=name)


@pytest.fixture
def connection(tmp_path):
    folders = {name: str(tmp_path / "messages") for name in ("data_folder_in", "data_folder_out")}
    options = {**folders, "control_folder": str(tmp_path / "control"), "polling_interval": 0.001}
    for name in ("messages", "control"):
        (tmp_path / name).mkdir()
    with Connection(app.conf.broker_url, transport_options=options) as connection:
        yield connection


def send(connection, queue, *bodies) -> None:
    with connection.channel() as channel:
        producer = Producer(channel, queue.exchange, routing_key=queue.name)
        for body in bodies:
            producer.publish(body, serializer="json", declare=[queue])


def receive(connection, queue, count: int) -> list:
    got: list = []
    with connection.channel() as channel:
        consumer = Consumer(
            channel, [queue], callbacks=[lambda body, m: (got.append(body), m.ack())]
        )
        with consumer:
            while len(got) < count:
                connection.drain_events(timeout=2)
    return got


def test_messages_arrive_in_the_order_they_were_sent(connection, queue):
    send(connection, queue, *range(20))
    assert receive(connection, queue, 20) == list(range(20))


def test_a_consumer_never_sees_half_a_message(connection, queue, monkeypatch):
    # Between every open and its write, the other side gets a chance to look.
    slow_open = open

    def open_slowly(path, *args, **kwargs):
        file = slow_open(path, *args, **kwargs)
        threading.Event().wait(0.002)
        return file

    queue(connection.default_channel).declare()
    monkeypatch.setattr("orchestrator.broker.open", open_slowly, raising=False)
    sender = threading.Thread(target=send, args=(connection.clone(), queue, *range(50)))
    sender.start()
    assert sorted(receive(connection, queue, 50)) == list(range(50))
    sender.join()


def test_a_damaged_message_is_dropped_and_the_next_one_delivered(connection, queue, tmp_path):
    (tmp_path / "messages" / f"00_torn.{queue.name}.msg").write_text("")
    send(connection, queue, "whole")
    assert receive(connection, queue, 1) == ["whole"]
    assert os.listdir(tmp_path / "messages") == []


def test_of_two_consumers_one_gets_a_message(connection, queue):
    send(connection, queue, "once")
    with connection.channel() as first, connection.channel() as second:
        assert first._get(queue.name)["body"]
        with pytest.raises(Empty):
            second._get(queue.name)


def test_other_queues_are_left_alone(connection, queue):
    send(connection, queue, "for local")
    with connection.channel() as channel, pytest.raises(Empty):
        channel._get("local")
